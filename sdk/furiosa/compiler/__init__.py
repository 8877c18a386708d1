"""The compiler: ONNX models to programs for the virtual Warboy. Runs in the client; opens no files."""

from furiosa.compiler.diagnostics import (
    CompilationFailed,
    CompileError,
    InvalidConfig,
    InvalidFormat,
    InvalidModel,
    InvalidNpuId,
    OutOfDram,
)
from furiosa.compiler.driver import compile
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.progress import PrintProgress, Progress

__all__ = [
    "CompilationFailed",
    "CompileError",
    "CompilerOptions",
    "InvalidConfig",
    "InvalidFormat",
    "InvalidModel",
    "InvalidNpuId",
    "OutOfDram",
    "PrintProgress",
    "Progress",
    "compile",
]
