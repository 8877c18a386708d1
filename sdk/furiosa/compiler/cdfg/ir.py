"""cdfg: the sections as ordered tasks with what goes in and out, and PEs for each NPU operation."""

from dataclasses import dataclass
from enum import Enum

from furiosa.compiler.ldfg.ir import HostNode, NpuNode
from furiosa.compiler.value import ModelInfo, Value


class Split(Enum):
    """How PEs share an operation: each makes a range of indices of one axis of the result."""

    NONE = "none"
    IMAGES = "images"
    CHANNELS = "channels"
    ROWS = "rows"

    @property
    def axis(self) -> int:
        """Of NONE there is none."""
        return _AXES[self]


_AXES = {Split.IMAGES: 0, Split.CHANNELS: 1, Split.ROWS: 2}


@dataclass(frozen=True, slots=True)
class Operation:
    """`pes` is a bit mask: bit n is PE n of the target; several share the work as `split` says.

    `exchanged` is how many bytes of its sources PEs fetch from each other before it.
    """

    node: NpuNode
    pes: int
    split: Split = Split.NONE
    exchanged: int = 0


@dataclass(frozen=True, slots=True)
class NpuTask:
    """`inputs` and `outputs` are the values that other tasks or the caller share with this one."""

    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostTask:
    nodes: tuple[HostNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Task = NpuTask | HostTask


@dataclass(frozen=True, slots=True)
class Cdfg:
    """`tasks` are in order of execution."""

    model: ModelInfo
    target: str
    pes: int  # of the target
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tasks: tuple[Task, ...]
    values: dict[str, Value]

    @property
    def shared(self) -> frozenset[str]:
        """Values that the caller or the host sees: they lie in DRAM."""
        found = {*self.inputs, *self.outputs}
        for task in self.tasks:
            if isinstance(task, HostTask):
                found.update(task.inputs, task.outputs)
        return frozenset(found)


def reads(task: Task) -> list[str]:
    """Values a task's nodes read, in order, with repetitions."""
    if isinstance(task, NpuTask):
        return [name for operation in task.operations for name in operation.node.reads]
    return [name for node in task.nodes for name in node.reads]


def writes(task: Task) -> list[str]:
    if isinstance(task, NpuTask):
        return [operation.node.output for operation in task.operations]
    return [name for node in task.nodes for name in node.writes]
