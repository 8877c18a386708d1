"""Elementwise operators at random: tables, sums and products, and what only the host can do."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from support.random_graph import RandomGraph, Stored, fits

_Range = Callable[[float], float]


def _same(reach: float) -> float:
    return reach


# what a result reaches
_STEPS: Final[dict[str, _Range]] = {
    "Ceil": _same,
    "Floor": _same,
    "Round": _same,
    "Sign": lambda reach: 1,
}
_EXACT: Final[dict[str, _Range]] = {
    "Abs": _same,
    "HardSigmoid": lambda reach: 1,
    "LeakyRelu": _same,
    "Neg": _same,
    "Relu": _same,
    "Softsign": lambda reach: 1,
    "ThresholdedRelu": _same,
}
_APPROXIMATED: Final[dict[str, _Range]] = {
    "Celu": _same,
    "Elu": _same,
    "Erf": lambda reach: 1,
    "Exp": lambda reach: float(np.exp(min(reach, 8))),
    "Selu": _same,
    "Sigmoid": lambda reach: 1,
    "Softplus": _same,
    "Tanh": lambda reach: 1,
}
_OF_POSITIVE: Final[dict[str, _Range]] = {
    "Log": lambda reach: 5,
    "Reciprocal": lambda reach: 8 / reach,
    "Sqrt": lambda reach: reach**0.5,
}
_WITH_CONSTANT: Final = ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum")


def table(g: RandomGraph) -> None:
    """A chain of operators on one stored tensor and constants, perhaps rounded in between.

    What rounds comes before what onnxruntime approximates, whose last bit it would make a whole step of.
    """
    x = g.one()
    y, reach = g.real(x), x.reach
    later = {14: ("HardSwish",), 18: ("Mish",), 20: ("Gelu",)}
    newer = [op for opset, ops in later.items() if g.net.opset >= opset for op in ops]
    smooth = False
    for _ in range(g.upto(4)):
        match g.upto(8):
            case 1 if not smooth:
                op = g.pick(*_STEPS)
                y, reach = g.net.node(op, y), _STEPS[op](reach)
            case 2 | 3:
                op = g.pick(*_EXACT)
                y, reach = g.net.node(op, y), _EXACT[op](reach)
            case 4 if reach < 1e3:
                op = g.pick(*_APPROXIMATED)
                y, reach, smooth = g.net.node(op, y), _APPROXIMATED[op](reach), True
            case 5 if newer and reach < 1e3:
                y, smooth = g.net.node(g.pick(*newer), y), True
            case 6 | 7:
                y, reach = _with_constant(g, y, x, reach)
            case 8 if reach < 1e3:
                y = g.net.node("Mul", y, g.net.node("Sigmoid", y))
                smooth = True
        if g.chance(0.15):
            dtype = g.pick(np.int8, np.uint8)
            y = g.net.rounded(y, g.scale(max(reach, 1e-3) / 100), g.point(dtype), dtype)
            smooth = False
    if g.chance(0.3) and not smooth and 1e-3 < reach < 1e3:
        y = g.net.node("Abs", y)
        op = g.pick(*_OF_POSITIVE, "Pow")
        if op == "Pow":
            y, reach = g.net.node(op, y, g.floats(g.pick(2, 3, 1.7, 0.5))), max(1, reach) ** 2
        else:
            y, reach = g.net.node(op, y), _OF_POSITIVE[op](reach)
    g.store(y, x.shape, reach)


def _with_constant(g: RandomGraph, y: str, x: Stored, reach: float) -> tuple[str, float]:
    """A number, or numbers along one axis other than the first."""
    shape = [1] * len(x.shape)
    if len(shape) > 1 and g.chance(0.5):
        axis = g.upto(len(shape) - 1)
        shape[axis] = x.shape[axis]
    if len(shape) > 1 and g.chance(0.15):
        given = [g.factors(x.shape[1]) for _ in range(3)] + [np.abs(g.factors(x.shape[1])) + 0.1]
        return g.net.node("BatchNormalization", y, *map(g.floats, given)), reach * 3
    op = g.pick(*_WITH_CONSTANT)
    factors = g.floats(g.factors(*shape))
    return g.net.node(op, y, factors), reach * 2 if op in ("Div", "Mul") else reach + 2


def clamp(g: RandomGraph) -> None:
    x = g.one()
    y = g.activated(g.real(x), x.reach) if g.chance(0.8) else g.real(x)
    g.store(y, x.shape, x.reach, like=g.pick(x, None))


def _broadcast(g: RandomGraph, x: Stored) -> Stored:
    """Another value whose shape goes with that of `x`; a new one if there is none."""
    found = []
    for y in g.values:
        if y is x or (g.batched and len(x.shape) != len(y.shape)):
            continue
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            continue
        if fits(shape) and (not g.batched or shape[0] == 1):
            found.append(y)
    if found and g.chance(0.7):
        return found[g.rng.integers(len(found))]
    rest = tuple(g.pick(size, size, 1) for size in x.shape[1:])
    return g.input(*x.shape[:1], *rest)


def two(g: RandomGraph) -> None:
    """A sum, difference or product of two stored tensors, of which one may be constant."""
    op = g.pick("Add", "Sub", "Mul", "Sum", "Mean")
    x = g.one()
    left = g.real(x)
    if g.chance(0.3):
        shape = x.shape[1:] if len(x.shape) > 1 else (1,)
        scale, zero = g.scale(0.02), g.point(np.int8)
        right, reach = g.net.stored(*shape, scale=scale, zero=zero), scale * 128
    else:
        y = x if g.chance(0.1) else _broadcast(g, x)
        right, reach, shape = g.real(y), y.reach, y.shape
    made = g.net.node(op, *g.pick((left, right), (right, left)))
    result = np.broadcast_shapes(x.shape, shape)
    if not g.batched or len(result) == len(x.shape):
        g.store(made, result, x.reach * reach if op == "Mul" else x.reach + reach)


def several(g: RandomGraph) -> None:
    """Three and more, which have one scale or several."""
    x = g.one()
    like = x if g.chance(0.8) else None
    y, z = (g.input(*x.shape, like=like) for _ in range(2))
    made = g.net.node(g.pick("Sum", "Mean"), *map(g.real, g.pick((x, y, z), (x, y, z, x))))
    g.store(made, x.shape, x.reach * 2)


def island(g: RandomGraph) -> None:
    """What the NPU cannot do, and which float32 holds exactly; perhaps an output as it is."""
    x = g.one()
    real = g.real(x)
    shape, reach = x.shape, x.reach
    match g.upto(5):
        case 1:
            y = _broadcast(g, x)
            shape, reach = np.broadcast_shapes(x.shape, y.shape), max(x.reach, y.reach)
            made = g.net.node(g.pick("Max", "Min"), real, g.real(y))
        case 2 if len(shape) > 1:
            axis = g.upto(len(shape) - 1)
            axes = [g.ints([axis])] if g.net.opset >= 18 else []
            given: dict[str, Any] = {} if axes else {"axes": [axis]}
            made = g.net.node("ReduceMax", real, *axes, **given)
            shape = tuple(1 if i == axis else size for i, size in enumerate(shape))
        case 3:
            positive = g.net.node("Greater", real, g.floats(x.scale * 3))
            made = g.net.node("Where", positive, real, g.floats(-x.scale))
        case 4 if len(shape) > 2:
            made = g.net.node("Add", real, g.floats(g.factors(1, *shape[1:])))
        case _:
            made = g.net.node("Where", g.net.node("Less", real, g.floats(0)), g.floats(1), real)
    if g.chance(0.2):
        g.islands.append(made)
    g.store(made, shape, reach)
