"""gir to lir: operations become instructions, arrays and host graphs become constants."""

from typing import ClassVar

import numpy as np

from furiosa.common.errors import InvalidProgram
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.gir.ir import STAGING, Gir, HostTask, NpuTask, Operation, operations
from furiosa.compiler.gir.ir import Buffer as PlannedBuffer
from furiosa.compiler.infra import Lowering
from furiosa.compiler.lir.constants import Constants
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.lower.host_graph import host_graph
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.text import digest
from furiosa.compiler.value import Array
from furiosa.enf.isa import NONE, Instruction
from furiosa.enf.limits import DEFAULT_LIMITS
from furiosa.enf.onnxgraph import check_host_graph
from furiosa.enf.program import Buffer, HostSection, NpuSection, Port, Section


class GirToLir(Lowering[Gir, Lir]):
    """Constants of the same type, shape and bytes become one; staging buffers stay behind.

    Raises: InvalidModel for a host graph that a worker would refuse.
    """

    name: ClassVar[str] = "lower-gir-to-lir"

    def run(self, graph: Gir, options: CompilerOptions) -> Lir:
        constants = Constants()
        buffers = tuple(_buffer(b) for b in graph.buffers if b.role not in STAGING)
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
            tuple(operation.split for _, operation in operations(graph)),
            tuple(provenance),
            graph.dram_bytes,
            graph.sram_bytes,
        )


def _instruction(operation: Operation, constants: Constants) -> Instruction:
    node = operation.node
    source0, source1 = (*operation.sources, NONE, NONE)[:2]
    return Instruction(
        node.opcode,
        operation.out,
        source0,
        source1,
        weights=_index(node.weights, constants),
        bias=_index(node.bias, constants),
        multiplier=_index(node.multiplier, constants),
        parameters=_index(node.parameters, constants),
        zero0=node.zero0,
        zero1=node.zero1,
        zero_out=node.zero_out,
        low=node.low,
        high=node.high,
        axis=node.axis,
        window=node.window,
        pes=operation.pes,
    )


def _index(data: Array | None, constants: Constants) -> int:
    return NONE if data is None else constants.index(data)


def _buffer(buffer: PlannedBuffer) -> Buffer:
    assert buffer.offset is not None, f"{buffer.name} has no address"  # allocation came before
    return Buffer(_short(buffer.name), buffer.dtype, buffer.shape, buffer.space, buffer.offset)


def _short(name: str) -> str:
    """A name that a program may hold: of fused operators some models join all names."""
    data = name.encode()
    if len(data) <= DEFAULT_LIMITS.name_bytes:
        return name
    mark = f"~{digest(data)}"
    return data[: DEFAULT_LIMITS.name_bytes - len(mark)].decode(errors="ignore") + mark


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
