"""Programs for tests: one small and known, others by hand. All of them pass the verifier."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf import (
    NONE,
    TARGETS,
    Buffer,
    HostSection,
    Instruction,
    NpuSection,
    Opcode,
    Port,
    Program,
    Space,
    Window,
)
from furiosa.enf.lifetime_rules import steps
from furiosa.enf.limits import aligned
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.enf.table_rules import RANGES

Array = npt.NDArray[Any]
SPREAD = 1 << 40  # buffers that have no address yet lie this far apart


@dataclass
class Draft:
    """A program in the making; `finish` finds addresses for its buffers."""

    batch: int = 1
    target: str = "warboy-2pe"
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    sections: list[NpuSection | HostSection] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)

    def buffer(self, dtype: DType, shape: tuple[int, ...], space: Space = Space.SRAM) -> int:
        index = len(self.buffers)
        self.buffers.append(Buffer(f"t{index}", dtype, shape, space, index * SPREAD))
        return index

    def input(self, dtype: DType, shape: tuple[int, ...]) -> int:
        index = self.buffer(dtype, shape, Space.DRAM)
        self.inputs.append(Port(f"x{len(self.inputs)}", index))
        return index

    def output(self, buffer: int) -> None:
        self.outputs.append(Port(f"y{len(self.outputs)}", buffer))

    def constant(self, values: Any, dtype: DType) -> int:
        self.constants.append(np.array(values, dtype.numpy))
        return len(self.constants) - 1

    def emit(self, opcode: Opcode, out: int, source0: int = NONE, **fields: Any) -> int:
        if not (self.sections and isinstance(self.sections[-1], NpuSection)):
            self.sections.append(NpuSection(len(self.instructions), 0))
        last = self.sections[-1]
        assert isinstance(last, NpuSection)
        self.sections[-1] = NpuSection(last.first, last.count + 1)
        self.instructions.append(Instruction(opcode, out, source0, **fields))
        return out

    def host(self, graph: bytes, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        constant = self.constant(np.frombuffer(graph, np.uint8), DType.UINT8)
        self.sections.append(HostSection(constant, inputs, outputs))

    def finish(self) -> Program:
        program = Program(
            name="draft",
            target=self.target,
            compiler_version="0.1.0",
            source_sha256=bytes(range(32)),
            batch=self.batch,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            buffers=tuple(self.buffers),
            constants=tuple(self.constants),
            sections=tuple(self.sections),
            instructions=tuple(self.instructions),
            provenance=tuple(f"node{i}" for i in range(len(self.instructions))),
            dram_bytes=0,
            sram_bytes=0,
        )
        return _placed(program)


def _placed(program: Program) -> Program:
    """First fit: each buffer at the lowest address that is free while it lives."""
    timeline = list(steps(program))
    born = {port.buffer: -1 for port in program.inputs}
    last = dict(born)
    for time, step in enumerate(timeline):
        last.update(dict.fromkeys(step.reads, time))
        born.update(dict.fromkeys(step.writes, time))
        last.update(dict.fromkeys(step.writes, time))
    last.update({port.buffer: len(timeline) for port in program.outputs})
    placed: dict[int, Buffer] = {}
    for index in sorted(born, key=lambda b: born[b]):
        buffer = program.buffers[index]
        taken = sorted(
            (other.offset, other.offset + aligned(other.nbytes))
            for o, other in placed.items()
            if other.space is buffer.space and born[o] <= last[index] and born[index] <= last[o]
        )
        offset = 0
        for start, end in taken:
            if offset + buffer.nbytes > start:
                offset = max(offset, end)
        placed[index] = Buffer(buffer.name, buffer.dtype, buffer.shape, buffer.space, offset)
    ends = {
        space: max((b.offset + b.nbytes for b in placed.values() if b.space is space), default=0)
        for space in Space
    }
    fields = {name: getattr(program, name) for name in Program.__dataclass_fields__}
    fields["buffers"] = tuple(placed[i] for i in range(len(placed)))
    fields |= {"dram_bytes": ends[Space.DRAM], "sram_bytes": ends[Space.SRAM]}
    return Program(**fields)


def a_program(*, batch: int = 1, target: str = "warboy-2pe", host: bool = False) -> Program:
    """`x0` float32 [batch, 3, 8, 8] through one convolution to `y0` float32 [batch, 4, 8, 8].

    With `host`, a softmax over the channels follows as a host section.
    """
    rng = np.random.default_rng(7)
    draft = Draft(batch, target)
    x = draft.input(DType.FLOAT32, (batch, 3, 8, 8))
    scale = draft.constant([0.1], DType.FLOAT32)
    q = draft.buffer(DType.INT8, (batch, 3, 8, 8))
    draft.emit(Opcode.QUANTIZE, q, x, multiplier=scale, zero_out=3, low=-128, high=127)
    y = draft.buffer(DType.INT8, (batch, 4, 8, 8))
    draft.emit(
        Opcode.CONV2D,
        y,
        q,
        weights=draft.constant(rng.integers(-128, 128, (4, 3, 3, 3)), DType.INT8),
        bias=draft.constant([-900, 0, 900, 5], DType.INT32),
        multiplier=draft.constant([0.004, 0.008, 0.002, 0.01], DType.FLOAT32),
        zero0=3,
        zero_out=-20,
        low=-20,
        high=127,
        window=Window((3, 3), pads=(1, 1, 1, 1)),
        pes=(1 << TARGETS[target]) - 1,
    )
    out = draft.buffer(DType.FLOAT32, (batch, 4, 8, 8), Space.DRAM)
    draft.emit(Opcode.DEQUANTIZE, out, y, multiplier=scale, zero0=-20)
    if host:
        graph = GraphBuilder("softmax")
        graph.input("in", DType.FLOAT32, (batch, 4, 8, 8))
        graph.node("Softmax", ["in"], ["out"], axis=1)
        graph.output("out", DType.FLOAT32, (batch, 4, 8, 8))
        soft = draft.buffer(DType.FLOAT32, (batch, 4, 8, 8), Space.DRAM)
        draft.host(graph.build(), (out,), (soft,))
        out = soft
    draft.output(out)
    return draft.finish()


def inputs_for(program: Program, rng: np.random.Generator) -> list[Array]:
    """Random inputs: activations over their whole range, and -60..60 for other numbers."""
    arrays: list[Array] = []
    for spec in program.input_specs:
        if spec.dtype in RANGES:
            low, high = RANGES[spec.dtype]
            arrays.append(rng.integers(low, high + 1, spec.shape).astype(spec.dtype.numpy))
        else:
            arrays.append(rng.uniform(-60, 60, spec.shape).astype(spec.dtype.numpy))
    return arrays
