"""Bounds on the models of strangers."""

from typing import Final

MAX_MODEL_BYTES: Final = 1 << 30  # of a model with all of its tensors
