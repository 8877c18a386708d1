"""The compiler: ONNX models to programs for the virtual Warboy. Runs in the client; opens no files."""

from furiosa.compiler.config import CompilerConfig
from furiosa.compiler.diagnostics import (
    CompilationFailed,
    CompileError,
    InvalidConfig,
    InvalidFormat,
    InvalidModel,
    InvalidNpuId,
    OutOfDram,
    OutOfSram,
)
from furiosa.compiler.driver import compile
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.progress import PrintProgress, Progress

__all__ = [
    "CompilationFailed",
    "CompileError",
    "CompilerConfig",
    "CompilerOptions",
    "InvalidConfig",
    "InvalidFormat",
    "InvalidModel",
    "InvalidNpuId",
    "OutOfDram",
    "OutOfSram",
    "PrintProgress",
    "Progress",
    "compile",
]
