"""cdfg: the sections as ordered tasks with what goes in and out, and PEs for each NPU operation."""

from dataclasses import dataclass

from furiosa.compiler.ldfg.ir import HostNode, NpuNode
from furiosa.compiler.value import ModelInfo, Value


@dataclass(frozen=True, slots=True)
class Operation:
    """`pes` is a bit mask: bit n is PE n of the target."""

    node: NpuNode
    pes: int


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


def reads(task: Task) -> list[str]:
    """Values a task's nodes read, in order, with repetitions."""
    if isinstance(task, NpuTask):
        return [name for operation in task.operations for name in operation.node.reads]
    return [name for node in task.nodes for name in node.reads]


def writes(task: Task) -> list[str]:
    if isinstance(task, NpuTask):
        return [operation.node.output for operation in task.operations]
    return [name for node in task.nodes for name in node.writes]
