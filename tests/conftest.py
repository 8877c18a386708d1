import gc
import os
import signal
from collections.abc import Iterator

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
os.environ.setdefault("FC_CACHE_ENABLED", "0")  # no test writes into the cache of whoever runs it
os.environ.setdefault("FURIOSA_TEST_IS_RUNNING", "1")  # nor logs of compilations into its home

# a shell that starts the tests in the background has Ctrl+C ignored, here and in every child
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

# how fast a machine is decides no test
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def only_new_objects_are_collected() -> Iterator[None]:
    """Or each collection at the end of a test walks through all that is imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
