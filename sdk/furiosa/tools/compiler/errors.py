"""Errors of the compile API, one class for each published code.

    CompilerApiError               the arguments are wrong: no code
    └── NativeError                the compiler gave up
        ├── CompilationError           1
        ├── IoError                    2
        ├── ConfigurationMismatch      3
        ├── InvalidFormat              4
        ├── InvalidModel               5
        ├── InvalidNpuId               6
        ├── OutOfDram                  7
        ├── OutOfSram                  8
        ├── OutOfInstructionMemory     9
        ├── TfliteToDfg               10
        ├── UserCommand               11
        ├── InvalidConfig             12
        └── Unknown                  255

Source of codes and texts: compiler reference 3.4.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from furiosa.compiler import CompileError


class CompilerApiError(Exception):
    """Base of the tree."""


class NativeError(CompilerApiError):
    """`str(error)` is the published text; `detail`, a note in tracebacks, says what was found where."""

    code: ClassVar[int]
    message: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.message} (native error code: {self.code})")
        self.detail = detail
        self.add_note(detail)

    def __reduce__(self) -> tuple[type["NativeError"], tuple[str]]:
        return type(self), (self.detail,)


class CompilationError(NativeError):
    code = 1
    message = "Compilation error"


class IoError(NativeError):
    code = 2
    message = "IO error"


class ConfigurationMismatch(NativeError):
    code = 3
    message = "Configuration mismatch"


class InvalidFormat(NativeError):
    code = 4
    message = "Invalid format"


class InvalidModel(NativeError):
    code = 5
    message = "Invalid model"


class InvalidNpuId(NativeError):
    code = 6
    message = "Invalid NPU id"


class OutOfDram(NativeError):
    code = 7
    message = "Out of dram"


class OutOfSram(NativeError):
    code = 8
    message = "Out of sram"


class OutOfInstructionMemory(NativeError):
    code = 9
    message = "Out of instruction memory"


class TfliteToDfg(NativeError):
    code = 10
    message = "TFLITE to dfg"


class UserCommand(NativeError):
    code = 11
    message = "User command"


class InvalidConfig(NativeError):
    code = 12
    message = "Invalid config"


class Unknown(NativeError):
    code = 255
    message = "Unknown"


_ALL: Final = (
    CompilationError,
    IoError,
    ConfigurationMismatch,
    InvalidFormat,
    InvalidModel,
    InvalidNpuId,
    OutOfDram,
    OutOfSram,
    OutOfInstructionMemory,
    TfliteToDfg,
    UserCommand,
    InvalidConfig,
)
BY_CODE: Final[Mapping[int, type[NativeError]]] = {each.code: each for each in _ALL}


def native(error: CompileError) -> NativeError:
    """The API's form of an error of the compiler."""
    return BY_CODE.get(error.code, Unknown)(str(error))
