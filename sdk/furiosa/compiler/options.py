"""What a caller chooses, and what a target has."""

from dataclasses import dataclass
from typing import Final

from furiosa.compiler.diagnostics import InvalidConfig, InvalidNpuId
from furiosa.enf.program import TARGETS

IRS: Final = ("dfg", "ldfg", "cdfg", "gir", "lir", "enf")  # in order of compilation
MAX_BATCH: Final = 1024
MAX_MODEL_BYTES: Final = 1 << 30  # of a source file


@dataclass(frozen=True, slots=True)
class CompilerOptions:
    """`target` is a key of `furiosa.enf.program.TARGETS`; `target_ir`, in any case, is where to stop.

    Raises: InvalidNpuId, InvalidConfig.
    """

    target: str = "warboy-2pe"
    batch_size: int = 1  # multiplies dimension 0 of the model's inputs and outputs
    target_ir: str = "enf"

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise InvalidNpuId(self.target, tuple(TARGETS))
        if self.target_ir.lower() not in IRS:
            raise InvalidConfig(
                f"invalid target ir '{self.target_ir}': choose from {', '.join(IRS)}"
            )
        if not 1 <= self.batch_size <= MAX_BATCH:
            raise InvalidConfig(
                f"invalid batch size {self.batch_size}: it must be between 1 and {MAX_BATCH}"
            )
        object.__setattr__(self, "target_ir", self.target_ir.lower())

    @property
    def pes(self) -> int:
        return TARGETS[self.target]
