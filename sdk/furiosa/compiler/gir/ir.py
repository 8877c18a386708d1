"""gir: tasks on buffers. A buffer has a role, a space, a lifetime and, once allocated, an offset.

Time counts steps: one for each NPU operation and one for each host task, in order of execution.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from furiosa.common.tensor import DType
from furiosa.compiler.cdfg.ir import Split
from furiosa.compiler.cost import constant_bytes
from furiosa.compiler.ldfg.ir import HostNode, NpuNode
from furiosa.compiler.value import ModelInfo, QuantParams, Value
from furiosa.enf.limits import DEFAULT_LIMITS
from furiosa.enf.program import Space


class Role(Enum):
    """What a buffer is for; WEIGHTS and SCRATCH are of the plan only, no instruction names them."""

    INPUT = "input"  # of the program
    OUTPUT = "output"  # of the program
    HOST = "host"  # shared with a host task
    ACTIVATION = "activation"  # seen by NPU operations only
    WEIGHTS = "weights"  # an operation's constants in SRAM
    SCRATCH = "scratch"  # tiles in SRAM of an operand in DRAM


STAGING = (Role.WEIGHTS, Role.SCRATCH)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Lives from step `first` to step `last`, both included. `offset` is None until allocated.

    `alias` is the buffer whose bytes it shares: a reshape in place. `spilled`: an activation that lies
    in DRAM because SRAM had no room.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    quantization: QuantParams | None
    role: Role
    space: Space
    first: int
    last: int
    offset: int | None = None
    alias: int | None = None
    spilled: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Operation:
    """`out` and `sources` are indices of buffers, sources in the order of the node's inputs.

    `pes`, `split` and `exchanged` are those of cdfg. What follows is None, 1 or empty until allocated.
    `constants` is the buffer of role WEIGHTS, which gets them in `slices` by output channel; several
    pass through its two halves. Operands in DRAM pass through `scratch`, one buffer for each of them in
    the order of sources and result, in `tiles` along `axis` of the result; several pass through two
    halves, but for a source that every tile reads alike.
    """

    node: NpuNode
    pes: int
    split: Split
    exchanged: int
    out: int
    sources: tuple[int, ...]
    constants: int | None = None
    slices: int = 1
    axis: int = 0
    tiles: int = 1
    scratch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NpuTask:
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class HostTask:
    nodes: tuple[HostNode, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Task = NpuTask | HostTask


@dataclass(frozen=True, slots=True)
class Gir:
    """`inputs` and `outputs` are indices of buffers; `values` are those of the host tasks' insides.

    Buffers of the roles in STAGING come after all others.
    """

    model: ModelInfo
    target: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    buffers: tuple[Buffer, ...]
    tasks: tuple[Task, ...]
    values: dict[str, Value]
    sram_bytes: int = 0  # in use at the peak; 0 until allocated
    dram_bytes: int = 0  # likewise, without the program's constants
    sram_capacity: int = DEFAULT_LIMITS.sram_bytes
    dram_capacity: int = DEFAULT_LIMITS.dram_bytes

    @property
    def steps(self) -> int:
        return sum(len(t.operations) if isinstance(t, NpuTask) else 1 for t in self.tasks)

    @property
    def is_allocated(self) -> bool:
        return all(buffer.offset is not None for buffer in self.buffers)

    @property
    def constant_bytes(self) -> int:
        """Of the operations' constants, which lie in DRAM beside the buffers."""
        return sum(constant_bytes(operation.node) for _, operation in operations(self))


def schedule(graph: Gir) -> Iterator[tuple[int, Operation | HostTask]]:
    """Every step with what it does."""
    step = 0
    for task in graph.tasks:
        for work in task.operations if isinstance(task, NpuTask) else (task,):
            yield step, work
            step += 1


def operations(graph: Gir) -> Iterator[tuple[int, Operation]]:
    """NPU operations with their steps."""
    for step, work in schedule(graph):
        if isinstance(work, Operation):
            yield step, work


def uses(graph: Gir) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Of each step: its number, the buffers it reads, the buffers it writes; no staging."""
    for step, work in schedule(graph):
        if isinstance(work, Operation):
            yield step, work.sources, (work.out,)
        else:
            yield step, work.inputs, work.outputs


def place_of(buffers: Sequence[Buffer], index: int) -> int:
    """The buffer whose bytes `index` has: itself, if it is no reshape in place."""
    alias = buffers[index].alias
    return index if alias is None else alias


def is_in_place(operation: Operation, buffers: Sequence[Buffer]) -> bool:
    """Whether its result is its source, so that nothing is done."""
    return place_of(buffers, operation.out) in [place_of(buffers, n) for n in operation.sources]
