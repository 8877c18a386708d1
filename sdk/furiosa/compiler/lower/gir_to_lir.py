"""gir to lir: operations become instructions, arrays and host graphs become constants."""

from typing import ClassVar

import numpy as np

from furiosa.common.errors import InvalidProgram
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.gir.ir import Buffer as PlannedBuffer
from furiosa.compiler.gir.ir import Gir, HostTask, NpuTask, Operation
from furiosa.compiler.infra import Lowering
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.lower.host_graph import host_graph
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Array
from furiosa.enf.isa import NONE, Instruction
from furiosa.enf.onnxgraph import check_host_graph
from furiosa.enf.program import Buffer, HostSection, NpuSection, Port, Section


class GirToLir(Lowering[Gir, Lir]):
    """Constants of the same type, shape and bytes become one.

    Raises: InvalidModel for a host graph that a worker would refuse.
    """

    name: ClassVar[str] = "lower-gir-to-lir"

    def run(self, graph: Gir, options: CompilerOptions) -> Lir:
        constants = _Constants()
        buffers = tuple(map(_buffer, graph.buffers))
        instructions: list[Instruction] = []
        sections: list[Section] = []
        provenance: list[str] = []
        for task in graph.tasks:
            if isinstance(task, NpuTask):
                sections.append(NpuSection(len(instructions), len(task.operations)))
                for operation in task.operations:
                    instructions.append(_instruction(operation, constants))
                    provenance.append("+".join(operation.node.sources))
            else:
                data = _checked(graph, task, buffers)
                index = constants.index(np.frombuffer(data, np.uint8))
                sections.append(HostSection(index, task.inputs, task.outputs))
        return Lir(
            graph.model,
            graph.target,
            tuple(_port(graph, index) for index in graph.inputs),
            tuple(_port(graph, index) for index in graph.outputs),
            buffers,
            tuple(constants.arrays),
            tuple(sections),
            tuple(instructions),
            tuple(provenance),
            graph.dram_bytes,
            graph.sram_bytes,
        )


class _Constants:
    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._indices: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def index(self, data: Array | None) -> int:
        if data is None:
            return NONE
        key = (data.dtype.name, data.shape, data.tobytes())
        if key not in self._indices:
            self._indices[key] = len(self.arrays)
            self.arrays.append(data)
        return self._indices[key]


def _instruction(operation: Operation, constants: _Constants) -> Instruction:
    node = operation.node
    source0, source1 = (*operation.sources, NONE)[:2]
    return Instruction(
        node.opcode,
        operation.out,
        source0,
        source1,
        weights=constants.index(node.weights),
        bias=constants.index(node.bias),
        multiplier=constants.index(node.multiplier),
        zero0=node.zero0,
        zero1=node.zero1,
        zero_out=node.zero_out,
        low=node.low,
        high=node.high,
        window=node.window,
        pes=operation.pes,
    )


def _buffer(buffer: PlannedBuffer) -> Buffer:
    assert buffer.offset is not None, f"{buffer.name} has no address"  # allocation came before
    return Buffer(buffer.name, buffer.dtype, buffer.shape, buffer.space, buffer.offset)


def _port(graph: Gir, index: int) -> Port:
    buffer = graph.buffers[index]
    params = buffer.quantization
    return Port(buffer.name, index, None if params is None else params.whole)


def _checked(graph: Gir, task: HostTask, buffers: tuple[Buffer, ...]) -> bytes:
    data = host_graph(graph, task)
    try:
        check_host_graph(
            data, [buffers[i] for i in task.inputs], [buffers[i] for i in task.outputs]
        )
    except InvalidProgram as exc:
        names = ", ".join(node.name for node in task.nodes[:5])
        raise InvalidModel(
            f"no program may hold its host part ({names}): {exc.detail}",
            "quantise the model or change that part",
        ) from None
    return data
