"""The virtual NPU: a reference interpreter and a fast engine for ENF programs, equal to the bit."""

from furiosa.vnpu.engine import Bound, Engine, Timing
from furiosa.vnpu.interpreter import Interpreter
from furiosa.vnpu.session import ExecutionFailed

__all__ = ["Bound", "Engine", "ExecutionFailed", "Interpreter", "Timing"]
