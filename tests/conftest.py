import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
os.environ.setdefault("FC_CACHE_ENABLED", "0")  # no test writes into the cache of whoever runs it

from hypothesis import HealthCheck, settings

# how fast a machine is decides no test
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
