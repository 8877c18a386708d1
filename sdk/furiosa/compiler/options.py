"""What a caller chooses, and what a target has."""

from dataclasses import dataclass, replace
from typing import Final, Self

from furiosa.compiler.config import CompilerConfig
from furiosa.compiler.diagnostics import InvalidConfig, InvalidNpuId
from furiosa.enf.program import TARGETS

IRS: Final = ("dfg", "ldfg", "cdfg", "gir", "lir", "enf")  # in order of compilation
MAX_BATCH: Final = 1024
MAX_ATTEMPTS: Final = 100_000
DEFAULT_CONFIG: Final = CompilerConfig()


@dataclass(frozen=True, slots=True)
class Search:
    """How long the allocation of memory looks for a better plan than the first one.

    At most `attempts` plans are tried (1 to MAX_ATTEMPTS); equal seeds give equal plans.
    `is_random_start`: it begins with buffers in random order and not in the best of a few fixed ones.
    Raises: InvalidConfig.
    """

    attempts: int = 1000
    seed: int = 0
    is_random_start: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise InvalidConfig(
                f"invalid number of attempts {self.attempts}: it must be between 1 and {MAX_ATTEMPTS}"
            )


@dataclass(frozen=True, slots=True)
class CompilerOptions:
    """`target` is a key of `furiosa.enf.program.TARGETS`; `target_ir`, in any case, is where to stop.

    Raises: InvalidNpuId, InvalidConfig.
    """

    target: str = "warboy-2pe"
    batch_size: int = 1  # multiplies dimension 0 of the model's inputs and outputs
    target_ir: str = "enf"
    config: CompilerConfig = DEFAULT_CONFIG
    search: Search | None = None

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

    def with_batch(self, batch_size: int) -> Self:
        return replace(self, batch_size=batch_size)

    @property
    def allocation(self) -> Search | None:
        """The search for a better allocation of memory; None: the first plan is taken."""
        return self.search or (Search() if self.config.sa_malloc else None)
