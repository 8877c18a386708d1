"""Every way a compilation fails.

    CompileError
    ├── CompilationFailed   1   a defect of ours: an IR broke one of its own rules
    ├── InvalidFormat       4   not a file we can read
    ├── InvalidModel        5   readable, but not a model we can compile
    ├── InvalidNpuId        6   no such target
    ├── OutOfDram           7   the tensors do not fit in device memory
    ├── OutOfSram           8   what one operation needs does not fit in on-chip memory
    └── InvalidConfig      12   an option has a value it cannot have

`code` is the published error number. Source: compiler reference 3.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class CompileError(Exception):
    """Base of the tree; `str(error)` says what was found where, and what to do."""

    code: ClassVar[int]
    summary: ClassVar[str]  # published message of the code


@dataclass(eq=False)
class CompilationFailed(CompileError):
    """`step` made (or left) `ir` broken; `after` are the steps before it, in order."""

    code = 1
    summary = "Compilation error"
    ir: str
    rule: str
    found: str
    step: str
    after: tuple[str, ...] = ()

    def __str__(self) -> str:
        before = f", after {', '.join(self.after)}" if self.after else ""
        return (
            f"{self.step} left a broken {self.ir}: {self.found} (rule {self.rule}{before}); "
            "this is a defect of the compiler, please report it with the model"
        )


@dataclass(eq=False)
class InvalidFormat(CompileError):
    code = 4
    summary = "Invalid format"
    found: str
    hint: str = "give an ONNX or TensorFlow Lite model"

    def __str__(self) -> str:
        return f"{self.found}; {self.hint}"


@dataclass(eq=False)
class InvalidModel(CompileError):
    """`node` and `operator` are empty when the fault is not a node's."""

    code = 5
    summary = "Invalid model"
    found: str
    hint: str
    node: str = ""
    operator: str = ""

    def __str__(self) -> str:
        where = f"node '{self.node}' ({self.operator}): " if self.operator else ""
        return f"{where}{self.found}; {self.hint}"


@dataclass(eq=False)
class InvalidNpuId(CompileError):
    code = 6
    summary = "Invalid NPU id"
    found: str
    known: Sequence[str]

    def __str__(self) -> str:
        return f"invalid NPU id '{self.found}': choose from {', '.join(self.known)}"


@dataclass(eq=False)
class OutOfMemory(CompileError):
    """`tensors` are the largest that are needed at once, largest first."""

    memory: ClassVar[str]
    needed: int
    available: int
    tensors: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        largest = ", ".join(f"'{name}' ({size} bytes)" for name, size in self.tensors)
        return (
            f"the tensors need {self.needed} bytes of {self.memory} and {self.available} are there; "
            f"largest: {largest}; lower the batch size or the input size"
        )


class OutOfDram(OutOfMemory):
    code = 7
    summary = "Out of dram"
    memory = "DRAM"


class OutOfSram(OutOfMemory):
    """Of what one step needs at once, in its smallest tiles."""

    code = 8
    summary = "Out of sram"
    memory = "SRAM"


@dataclass(eq=False)
class InvalidConfig(CompileError):
    code = 12
    summary = "Invalid config"
    found: str

    def __str__(self) -> str:
        return self.found
