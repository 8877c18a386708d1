"""onnxruntime without its telemetry: official builds start a reporting thread on import."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
