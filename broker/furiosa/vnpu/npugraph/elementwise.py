"""One result for each element."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.enf import Instruction, Opcode
from furiosa.vnpu.npugraph.carriers import name
from furiosa.vnpu.npugraph.graph import INT32, Graph, Lowering
from furiosa.vnpu.npugraph.lines import two_lines
from furiosa.vnpu.npugraph.machine import PAIRED, PAIRED_DOMAIN, pair_of

_APART: Final[Mapping[Opcode, str]] = {Opcode.ADD: "Add", Opcode.MULTIPLY: "Mul"}


def _pair(g: Graph, i: Instruction) -> None:
    pair = pair_of(g.program, i)
    factors = g.machine.fused.get(pair) if pair else None
    if factors is None:
        first, second = g.program.constants[i.multiplier].tolist()
        terms = (
            g.real(name(i.source0), i.source0, i.zero0, first),
            g.real(name(i.source1), i.source1, i.zero1, second),
        )
        g.stored(i, g.node(_APART[i.opcode], *terms))
        return
    g.clamped(
        i,
        PAIRED[i.opcode],
        name(i.source0),
        g.scale(factors[0]),
        g.point(i.source0, i.zero0),
        name(i.source1),
        g.scale(factors[1]),
        g.point(i.source1, i.zero1),
        g.one,
        g.point(i.out, i.zero_out),
        domain=PAIRED_DOMAIN,
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
    Opcode.ADD: _pair,
    Opcode.MULTIPLY: _pair,
    Opcode.TABLE: _table,
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
}
