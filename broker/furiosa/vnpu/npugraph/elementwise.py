"""One result for each element."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.enf import Instruction, Opcode
from furiosa.vnpu.npugraph.graph import INT32, Graph, Lowering, name
from furiosa.vnpu.npugraph.lines import two_lines


def _add(g: Graph, i: Instruction) -> None:
    g.stored(i, g.node("Add", *_terms(g, i)))


def _multiply(g: Graph, i: Instruction) -> None:
    g.stored(i, g.node("Mul", *_terms(g, i)))


def _terms(g: Graph, i: Instruction) -> tuple[str, str]:
    first, second = g.program.constants[i.multiplier].tolist()
    return (
        g.real(name(i.source0), i.source0, i.zero0, first),
        g.real(name(i.source1), i.source1, i.zero1, second),
    )


def _table(g: Graph, i: Instruction) -> None:
    """The carried value is the index: it is uint8, and its least stands for the type's least."""
    entries = g.carried(i.out, g.program.constants[i.weights])
    lines = g.once(("lines", i.weights), lambda: two_lines(entries)) if entries.ndim == 1 else None
    if lines:
        g.within(
            i,
            (int(entries.min()), int(entries.max())),
            "QLinearLeakyRelu",
            name(i.source0),
            g.scale(lines.slope),
            g.constant(np.array(lines.corner, np.uint8), "point"),
            g.one,
            g.constant(entries[lines.corner], "point"),
            domain="com.microsoft",
            alpha=lines.ratio,
        )
        return
    shape = g.shape(i.out)
    index = g.node("Cast", name(i.source0), to=INT32)
    if entries.ndim == 2:
        rows = np.arange(0, entries.size, 256, dtype=np.int32)
        sizes = [-1 if axis == i.axis else 1 for axis in range(len(shape))]
        offsets = g.once(
            ("rows", *np.shape(rows), *sizes), lambda: g.constant(rows.reshape(sizes), "rows")
        )
        index = g.node("Add", index, offsets)
    table = g.held(i.weights, "table", lambda data: g.carried(i.out, data).reshape(-1))
    g.made(i, "Identity", g.looked_up(table, index, shape))


def _quantize(g: Graph, i: Instruction) -> None:
    g.clamped(i, "QuantizeLinear", name(i.source0), g.factor(i), g.point(i.out, i.zero_out))


def _dequantize(g: Graph, i: Instruction) -> None:
    g.made(i, "DequantizeLinear", name(i.source0), g.factor(i), g.point(i.source0, i.zero0))


LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    Opcode.ADD: _add,
    Opcode.MULTIPLY: _multiply,
    Opcode.TABLE: _table,
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
}
