"""Many elements become one, or are weighed against each other. Every sum is exact."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from furiosa.enf import Instruction, Opcode
from furiosa.vnpu.npugraph.carriers import name
from furiosa.vnpu.npugraph.graph import FLOAT, INT32, Array, Graph, Lowering

_EXACT: Final = 1 << 24  # float32 holds whole numbers up to here, so sums of them in any order


def _reduce_sum(g: Graph, i: Instruction) -> None:
    g.scaled(i, _sum(g, i, power=1))


def _reduce_l2(g: Graph, i: Instruction) -> None:
    g.scaled(i, g.node("Sqrt", _sum(g, i, power=2)))


def _l2_normalize(g: Graph, i: Instruction) -> None:
    norm = g.node("Max", g.node("Sqrt", _sum(g, i, power=2)), g.one)
    g.scaled(i, g.node("Div", g.real(name(i.source0), i.source0, i.zero0), norm))


def _sum(g: Graph, i: Instruction, power: int) -> str:
    """float32 sums of (stored - zero) ** power over the instruction's axes."""
    shape, axes = g.shape(i.source0), g.parameters(i).tolist()
    count = math.prod(shape[axis] for axis in axes)
    small = count * 255**power <= _EXACT
    if small:
        terms = g.real(name(i.source0), i.source0, i.zero0)
    else:
        wide = g.node("Cast", name(i.source0), to=INT32)
        zero = np.array(i.zero0 + g.flip(i.source0), np.int32)
        terms = g.node("Sub", wide, g.constant(zero, "zero"))
    if power == 2:
        terms = g.node("Mul", terms, terms)
    total = g.reduced("ReduceSum", terms, shape, axes)
    return total if small else g.node("Cast", total, to=FLOAT)


def _softmax(g: Graph, i: Instruction) -> None:
    shape = g.shape(i.out)
    highest = g.reduced("ReduceMax", name(i.source0), shape, [i.axis])
    below = g.node("Cast", g.node("Sub", highest, name(i.source0)), to=INT32)
    terms = g.looked_up(g.held(i.weights, "table"), below, shape)
    total = g.reduced("ReduceSum", terms, shape, [i.axis])
    shares = g.node("Div", terms, total)
    g.clamped(i, "QuantizeLinear", shares, g.factor(i), g.point(i.out, i.zero_out))


def _matmul(g: Graph, i: Instruction) -> None:
    """As in convolutions, the factor is the multiplier itself."""
    g.clamped(
        i,
        "QLinearMatMul",
        name(i.source0),
        g.one,
        g.point(i.source0, i.zero0),
        name(i.source1),
        g.factor(i),
        g.point(i.source1, i.zero1),
        g.one,
        g.point(i.out, i.zero_out),
    )


def _resize_linear(g: Graph, i: Instruction) -> None:
    """Channels last, so that elements are gathered in long runs."""
    height, width = g.shape(i.out)[2:]
    images = g.node("Transpose", name(i.source0), perm=[0, 2, 3, 1])
    real = g.real(images, i.source0, i.zero0)
    rows = _between(g, i, real, 0, height, axis=1)
    both = _between(g, i, rows, height, width, axis=2)
    scaled = g.node("Mul", both, g.scale(g.program.constants[i.multiplier][-1].item()))
    g.stored(i, g.node("Transpose", scaled, perm=[0, 3, 1, 2]))


def _between(g: Graph, i: Instruction, real: str, before: int, size: int, axis: int) -> str:
    """`size` places on an axis, each between two, for which the constants hold `before` on other axes."""
    first, second = (
        g.held(i.parameters, f"indices_{start}_{size}", _part(start, size, np.int64))
        for start in (2 * before, 2 * before + size)
    )
    part, sizes = _part(before, size, np.float32), (size,) + (1,) * (3 - axis)
    near = g.held(
        i.multiplier, f"near_{before}_{size}", lambda data: (1 - part(data)).reshape(sizes)
    )
    far = g.held(i.multiplier, f"far_{before}_{size}", lambda data: part(data).reshape(sizes))
    terms = [
        g.node("Mul", g.node("Gather", real, indices, axis=axis), share)
        for indices, share in ((first, near), (second, far))
    ]
    return g.node("Add", *terms)


def _part(start: int, size: int, dtype: type) -> Callable[[Array], Array]:
    return lambda data: data[start : start + size].astype(dtype)


LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    Opcode.REDUCE_SUM: _reduce_sum,
    Opcode.REDUCE_L2: _reduce_l2,
    Opcode.L2_NORMALIZE: _l2_normalize,
    Opcode.SOFTMAX: _softmax,
    Opcode.MATMUL: _matmul,
    Opcode.RESIZE_LINEAR: _resize_linear,
}
