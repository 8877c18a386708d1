"""NPU sections as ONNX graphs that compute the same bits.

onnxruntime's fast integer kernels take uint8 activations and int8 weights, and their requantisation is
ours when the scales of source and result are 1 and the weights' scale is the multiplier. So every int8
buffer is carried as uint8, 128 higher, with zero points and clamps moved along; the bits differ in the
top one only. ADD is spelled out in float32, because the rounding of the fused QLinearAdd depends on the
CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import NONE, Instruction, NpuSection, Opcode, Program
from furiosa.enf.onnxgraph import GraphBuilder

FLIP: Final = 128  # int8 value + 128 = its bits with the top bit flipped, read as uint8
_FULL: Final = (0, 255)


@dataclass(frozen=True, slots=True)
class NpuGraph:
    """`inputs` and `outputs` are buffers; their values are called `name(buffer)` in the graph."""

    model: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def name(buffer: int) -> str:
    return f"b{buffer}"


def carrier(dtype: DType) -> DType:
    """The type that carries a buffer inside the graph."""
    return DType.UINT8 if dtype is DType.INT8 else dtype


def last_readers(program: Program) -> dict[int, int]:
    """Buffer to the number of the last section that reads it; outputs are read after all sections."""
    last: dict[int, int] = {}
    for number, section in enumerate(program.sections):
        if isinstance(section, NpuSection):
            for i in _instructions(program, section):
                last[i.source0] = last[i.source1] = number
        else:
            last.update(dict.fromkeys(section.inputs, number))
    last.update(dict.fromkeys((port.buffer for port in program.outputs), len(program.sections)))
    return last


def lower(
    program: Program, number: int, section: NpuSection, last: dict[int, int], *, wide_weights: bool
) -> NpuGraph:
    """The graph of one section; its outputs are what later sections or the program's outputs need.

    `last` is of `last_readers`.
    `wide_weights` carries weights as uint8 too: without VNNI, products of uint8 and int8 saturate in
    pairs at 16 bits, products of uint8 and uint8 do not.
    """
    instructions = _instructions(program, section)
    written = dict.fromkeys(i.out for i in instructions)
    read = dict.fromkeys(b for i in instructions for b in (i.source0, i.source1) if b != NONE)
    inputs = tuple(b for b in read if b not in written)
    outputs = tuple(b for b in written if last.get(b, number) > number)
    graph = _Graph(program, wide_weights)
    for buffer in inputs:
        graph.builder.input(name(buffer), *_type(program, buffer))
    for instruction in instructions:
        _LOWERINGS[instruction.opcode](graph, instruction)
    for buffer in outputs:
        graph.builder.output(name(buffer), *_type(program, buffer))
    return NpuGraph(graph.builder.build(), inputs, outputs)


def _type(program: Program, buffer: int) -> tuple[DType, tuple[int, ...]]:
    b = program.buffers[buffer]
    return carrier(b.dtype), b.shape


def _instructions(program: Program, section: NpuSection) -> tuple[Instruction, ...]:
    return program.instructions[section.first : section.first + section.count]


class _Graph:
    """A builder that knows how the buffers of a program are carried."""

    def __init__(self, program: Program, wide_weights: bool) -> None:
        self.builder = GraphBuilder("npu")
        self.program = program
        self.wide_weights = wide_weights
        self.one = self.scale(1.0)

    def scale(self, value: float) -> str:
        return self.builder.constant(np.array(value, np.float32), "scale")

    def flip(self, buffer: int) -> int:
        """What is added to the values of this buffer."""
        return FLIP if self.program.buffers[buffer].dtype is DType.INT8 else 0

    def point(self, buffer: int, value: int) -> str:
        return self.builder.constant(np.array(value + self.flip(buffer), np.uint8), "point")

    def clamped(self, i: Instruction, op: str, inputs: list[str], **attributes: Any) -> None:
        """The node that makes `i.out`, followed by a clamp where saturation does not do already."""
        low, high = i.low + self.flip(i.out), i.high + self.flip(i.out)
        if (low, high) == _FULL:
            self.builder.node(op, inputs, [name(i.out)], **attributes)
            return
        (value,) = self.builder.node(op, inputs, **attributes)
        bounds = [self.builder.constant(np.array(b, np.uint8), "bound") for b in (low, high)]
        self.builder.node("Clip", [value, *bounds], [name(i.out)])


def _convolution(g: _Graph, i: Instruction) -> None:
    constants = g.program.constants
    weights, shift = constants[i.weights], np.array(0, np.int8)
    if g.wide_weights:
        weights, shift = weights.view(np.uint8) ^ np.uint8(FLIP), np.array(FLIP, np.uint8)
    inputs = [
        name(i.source0),
        g.one,
        g.point(i.source0, i.zero0),
        g.builder.constant(weights, "weights"),
        g.builder.constant(constants[i.multiplier], "multiplier"),
        g.builder.constant(np.broadcast_to(shift, weights.shape[:1]), "shift"),
        g.one,
        g.point(i.out, i.zero_out),
        g.builder.constant(constants[i.bias], "bias"),
    ]
    w = i.window
    g.clamped(
        i,
        "QLinearConv",
        inputs,
        kernel_shape=w.kernel,
        strides=w.strides,
        pads=w.pads,
        dilations=w.dilations,
        group=w.group,
    )


def _add(g: _Graph, i: Instruction) -> None:
    multiplier = g.program.constants[i.multiplier]
    terms: list[str] = []
    for k, (source, zero) in enumerate(((i.source0, i.zero0), (i.source1, i.zero1))):
        inputs = [name(source), g.scale(multiplier[k]), g.point(source, zero)]
        terms += g.builder.node("DequantizeLinear", inputs)
    (total,) = g.builder.node("Add", terms)
    g.clamped(i, "QuantizeLinear", [total, g.one, g.point(i.out, i.zero_out)])


def _max_pool(g: _Graph, i: Instruction) -> None:
    w = i.window
    g.clamped(
        i,
        "MaxPool",
        [name(i.source0)],
        kernel_shape=w.kernel,
        strides=w.strides,
        pads=w.pads,
        dilations=w.dilations,
    )


def _reshape(g: _Graph, i: Instruction) -> None:
    shape = np.array(g.program.buffers[i.out].shape, np.int64)
    inputs = [name(i.source0), g.builder.constant(shape, "shape")]
    g.builder.node("Reshape", inputs, [name(i.out)])


def _quantize(g: _Graph, i: Instruction) -> None:
    scale = g.scale(g.program.constants[i.multiplier][0])
    inputs = [name(i.source0), scale, g.point(i.out, i.zero_out)]
    g.clamped(i, "QuantizeLinear", inputs)


def _dequantize(g: _Graph, i: Instruction) -> None:
    scale = g.scale(g.program.constants[i.multiplier][0])
    inputs = [name(i.source0), scale, g.point(i.source0, i.zero0)]
    g.builder.node("DequantizeLinear", inputs, [name(i.out)])


_LOWERINGS: Final[dict[Opcode, Callable[[_Graph, Instruction], None]]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.ADD: _add,
    Opcode.MAX_POOL2D: _max_pool,
    Opcode.RESHAPE: _reshape,
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
}
