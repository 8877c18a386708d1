"""Prepare a float ONNX model for quantization and compilation."""

from furiosa.optimizer.optimize import optimize_model

__all__ = ["optimize_model"]
