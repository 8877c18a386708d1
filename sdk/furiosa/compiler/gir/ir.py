"""gir: tasks on buffers. A buffer has a space, a lifetime and, once allocated, an offset.

Time counts steps: one for each NPU operation and one for each host task, in order of execution.
"""

import math
from dataclasses import dataclass

from furiosa.common.tensor import DType
from furiosa.compiler.ldfg.ir import HostNode, NpuNode
from furiosa.compiler.value import ModelInfo, QuantParams, Value
from furiosa.enf.program import Space


@dataclass(frozen=True, slots=True)
class Buffer:
    """Lives from step `first` to step `last`, both included. `offset` is None until allocated.

    `alias` is the buffer whose bytes it shares: a reshape in place.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    quantization: QuantParams | None
    space: Space
    first: int
    last: int
    offset: int | None = None
    alias: int | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Operation:
    """`out` and `sources` are indices of buffers, sources in the order of the node's inputs."""

    node: NpuNode
    pes: int
    out: int
    sources: tuple[int, ...]


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
    """`inputs` and `outputs` are indices of buffers; `values` are those of the host tasks' insides."""

    model: ModelInfo
    target: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    buffers: tuple[Buffer, ...]
    tasks: tuple[Task, ...]
    values: dict[str, Value]
    sram_bytes: int = 0  # in use; 0 until allocated
    dram_bytes: int = 0

    @property
    def steps(self) -> int:
        return sum(len(t.operations) if isinstance(t, NpuTask) else 1 for t in self.tasks)
