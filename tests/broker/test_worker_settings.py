"""What the parts are told of the settings."""

from furiosa.broker.settings import BrokerSettings
from furiosa.broker.worker_settings import worker_settings


def test_workers_have_the_limits_that_the_broker_has() -> None:
    settings = BrokerSettings(
        run_timeout=7.0, load_timeout=8.0, max_program_bytes=9000, worker_memory_bytes=2**30
    )
    made = worker_settings(settings)
    assert (made.run_timeout, made.load_timeout) == (7.0, 8.0)
    assert made.request_timeout > 7.0
    assert (made.max_enf_bytes, made.memory_bytes) == (9000, 2**30)
