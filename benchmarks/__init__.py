"""Measurements: each figure beside its limit or alternative, in one run, as a ratio."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
