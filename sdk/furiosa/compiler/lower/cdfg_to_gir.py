"""cdfg to gir: values that cross an operation become buffers with roles and lifetimes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.cdfg import ir as cdfg
from furiosa.compiler.gir.ir import (
    Buffer,
    Gir,
    HostTask,
    NpuTask,
    Operation,
    Role,
    Task,
    operations,
    place_of,
    uses,
)
from furiosa.compiler.infra import Lowering
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode
from furiosa.enf.program import Space


class CdfgToGir(Lowering[cdfg.Cdfg, Gir]):
    """DRAM for what the caller or the host sees, SRAM for what only the NPU sees.

    The caller's buffers live throughout: they may be the caller's own memory. The result of a reshape
    takes the place of its source when both are in SRAM.
    """

    name: ClassVar[str] = "lower-cdfg-to-gir"

    def run(self, graph: cdfg.Cdfg, options: CompilerOptions) -> Gir:
        table = _Table(graph)
        inputs = table.indices(graph.inputs)
        tasks = tuple(map(table.task, graph.tasks))
        outputs = table.indices(graph.outputs)
        inside = {
            name: graph.values[name]
            for task in graph.tasks
            if isinstance(task, cdfg.HostTask)
            for node in task.nodes
            for name in (*node.reads, *node.writes)
        }
        bare = Gir(graph.model, graph.target, inputs, outputs, tuple(table.buffers), tasks, inside)
        return replace(bare, buffers=tuple(_with_aliases(bare, _with_lifetimes(bare))))


class _Table:
    """Buffers in order of first use."""

    def __init__(self, graph: cdfg.Cdfg) -> None:
        self._values = graph.values
        self._indices: dict[str, int] = {}
        self._roles = dict.fromkeys(graph.shared, Role.HOST)
        self._roles |= dict.fromkeys(graph.inputs, Role.INPUT)
        self._roles |= dict.fromkeys(graph.outputs, Role.OUTPUT)
        self.buffers: list[Buffer] = []

    def indices(self, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(map(self._index, names))

    def task(self, task: cdfg.Task) -> Task:
        if isinstance(task, cdfg.HostTask):
            return HostTask(task.nodes, self.indices(task.inputs), self.indices(task.outputs))
        return NpuTask(tuple(map(self._operation, task.operations)))

    def _operation(self, operation: cdfg.Operation) -> Operation:
        node = operation.node
        sources = self.indices(node.inputs)
        return Operation(
            node,
            operation.pes,
            operation.split,
            operation.exchanged,
            self._index(node.output),
            sources,
        )

    def _index(self, name: str) -> int:
        if name not in self._indices:
            self._indices[name] = len(self.buffers)
            value, role = self._values[name], self._roles.get(name, Role.ACTIVATION)
            space = Space.SRAM if role is Role.ACTIVATION else Space.DRAM
            self.buffers.append(
                Buffer(
                    name,
                    value.dtype,
                    value.shape,
                    value.quantization,
                    role,
                    space,
                    first=0,
                    last=0,
                )
            )
        return self._indices[name]


def _with_lifetimes(graph: Gir) -> list[Buffer]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, read, written in uses(graph):
        for index in (*read, *written):
            first.setdefault(index, step)
            last[index] = step
    for index in (*graph.inputs, *graph.outputs):
        first[index], last[index] = 0, graph.steps
    return [
        replace(buffer, first=first[index], last=last[index])
        for index, buffer in enumerate(graph.buffers)
    ]


def _with_aliases(graph: Gir, buffers: list[Buffer]) -> list[Buffer]:
    for _, operation in operations(graph):
        if operation.node.opcode is not Opcode.RESHAPE:
            continue
        source, result = buffers[operation.sources[0]], buffers[operation.out]
        if source.space is result.space is Space.SRAM:
            root = place_of(buffers, operation.sources[0])
            buffers[operation.out] = replace(result, alias=root)
            longest = max(buffers[root].last, result.last)
            buffers[root] = replace(buffers[root], last=longest)
    return buffers
