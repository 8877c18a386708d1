"""Operators that move elements and compute nothing: ONNX's own, on stored integers or float32.

How each moves elements is written once, as a chain of elementary movements, which is also its lowering; an
operator that has none for a reason gives the reason instead. Operands are those of opset 13 and later.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.moves import (
    NOTHING,
    Border,
    Crop,
    Moves,
    Reshape,
    Spread,
    by_axis,
    permute,
)
from furiosa.compiler.dfg.operators.operator import EIGHT_BIT, Operator, every
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode

MOVABLE: Final = (*EIGHT_BIT, DType.FLOAT32)
_CONSTANT: Final = "its parameters are not constant"


def numbers(node: Node, graph: Dfg, position: int) -> tuple[int, ...] | None:
    """A list that is a constant operand; None if it is left out or not constant."""
    data = graph.data(node.inputs[position]) if position < len(node.inputs) else None
    return None if data is None else tuple(int(number) for number in data.ravel())


def is_given(node: Node, position: int) -> bool:
    return position < len(node.inputs) and bool(node.inputs[position])


def unmovable(value: Value) -> str | None:
    return None if value.dtype in MOVABLE else f"its input is {value.dtype.value}"


def shapes(node: Node, graph: Dfg) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return graph.values[node.inputs[0]].shape, graph.values[node.outputs[0]].shape


def _identity(node: Node, graph: Dfg) -> Moves:
    return NOTHING


def _reshape(node: Node, graph: Dfg) -> Moves:
    return (Reshape(shapes(node, graph)[1]),)


def _transpose(node: Node, graph: Dfg) -> Moves:
    source, _ = shapes(node, graph)
    given = node.attributes.get("perm", tuple(reversed(range(len(source)))))
    assert isinstance(given, tuple)
    return (permute(tuple(int(axis) for axis in given), source),)


def _slice(node: Node, graph: Dfg) -> Moves | str:
    source, _ = shapes(node, graph)
    starts, ends, axes, steps = (numbers(node, graph, position) for position in (1, 2, 3, 4))
    missing = (axes is None and is_given(node, 3)) or (steps is None and is_given(node, 4))
    if starts is None or ends is None or missing:
        return _CONSTANT
    chosen = [range(size) for size in source]
    places = tuple(range(len(starts))) if axes is None else axes
    steps = steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(places) == len(steps) or 0 in steps:
        return f"its starts {list(starts)}, ends {list(ends)} and steps {list(steps)} do not fit"
    for axis, start, end, step in zip(places, starts, ends, steps, strict=True):
        chosen[axis] = range(source[axis])[slice(start, end, step)]
    return by_axis(chosen, source)


def _pad(node: Node, graph: Dfg) -> Moves | str:
    """Negative padding takes away. A border of `point`s only goes around stored integers."""
    source, result = shapes(node, graph)
    mode = node.attributes.get("mode", "constant")
    pads = numbers(node, graph, 1)
    axes = numbers(node, graph, 3) if is_given(node, 3) else tuple(range(len(source)))
    if pads is None or axes is None:
        return _CONSTANT
    if len(pads) != 2 * len(axes):
        return f"its padding is {list(pads)}"
    before, after = [0] * len(source), [0] * len(source)
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        before[axis], after[axis] = begin, end
    if mode == "constant":
        kept = [
            range(max(-begin, 0), size - max(-end, 0))
            for size, begin, end in zip(source, before, after, strict=True)
        ]
        border = tuple(max(begin, 0) for begin in before)
        moves = by_axis(kept, source)
        if not any(border) and all(end <= 0 for end in after):
            return moves
        if graph.values[node.inputs[0]].dtype not in EIGHT_BIT:
            return "it pads float32 with numbers"
        point = pad_value(node, graph)
        return _CONSTANT if point is None else (*moves, Border(border, int(point), result))
    if min(*before, *after) < 0:
        return f"its mode is {mode} and its padding negative"
    if mode not in ("edge", "reflect", "wrap"):
        return f"its mode is {mode}"
    if mode == "reflect" and any(
        max(begin, end) >= size for size, begin, end in zip(source, before, after, strict=True)
    ):
        return "it reflects more than there is"
    chosen = [
        tuple(np.pad(np.arange(size), (begin, end), mode=mode).tolist())  # type: ignore[call-overload]  # one of three modes
        for size, begin, end in zip(source, before, after, strict=True)
    ]
    return by_axis(chosen, source)


def pad_value(node: Node, graph: Dfg) -> float | None:
    """What a Pad puts around its input, in the units of its input; None when it is not constant."""
    if not is_given(node, 2):
        return 0.0
    data = graph.data(node.inputs[2])
    return None if data is None else float(data.ravel()[0])


def _expand(node: Node, graph: Dfg) -> Moves:
    source, result = shapes(node, graph)
    whole = (1,) * (len(result) - len(source)) + source
    return Reshape(whole), Spread(result)


def _tile(node: Node, graph: Dfg) -> Moves:
    source, result = shapes(node, graph)
    chosen = [
        range(size) if size == wide else tuple(range(size)) * (wide // size)
        for size, wide in zip(source, result, strict=True)
    ]
    return by_axis(chosen, source)


def _gather(node: Node, graph: Dfg) -> Moves | str:
    source, result = shapes(node, graph)
    given = node.attributes.get("axis", 0)
    indices = graph.data(node.inputs[1])
    assert isinstance(given, int)
    if indices is None:
        return _CONSTANT
    axis = given % len(source)
    size = source[axis]
    if (outside := indices[(indices < -size) | (indices >= size)]).size:
        return f"it takes element {outside[0]} of {size}"
    chosen: list[Sequence[int]] = [range(n) for n in source]
    chosen[axis] = tuple((indices.ravel() % size).tolist())
    return *by_axis(chosen, source), Reshape(result)


def _blocks(node: Node) -> int:
    size = node.attributes["blocksize"]
    assert isinstance(size, int)
    return size


def depth_to_space(source: tuple[int, ...], down: int, right: int, *, depth_first: bool) -> Moves:
    """[N, down * right * C, H, W] (`depth_first`) or [N, C * down * right, H, W] to larger images."""
    n, deep, h, w = source
    c = deep // (down * right)
    split = (n, down, right, c, h, w) if depth_first else (n, c, down, right, h, w)
    axes = (0, 3, 4, 1, 5, 2) if depth_first else (0, 1, 4, 2, 5, 3)
    return Reshape(split), permute(axes, split), Reshape((n, c, h * down, w * right))


def _depth_to_space(node: Node, graph: Dfg) -> Moves:
    size, mode = _blocks(node), node.attributes.get("mode", "DCR")
    return depth_to_space(shapes(node, graph)[0], size, size, depth_first=mode == "DCR")


def _space_to_depth(node: Node, graph: Dfg) -> Moves:
    (n, c, h, w), result = shapes(node, graph)
    size = _blocks(node)
    split = (n, c, h // size, size, w // size, size)
    return Reshape(split), permute((0, 3, 5, 1, 2, 4), split), Reshape(result)


MOVES: Final[Mapping[str, Callable[[Node, Dfg], Moves | str]]] = {
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "Transpose": _transpose,
}


def _condition(node: Node, graph: Dfg) -> str | None:
    if reason := unmovable(graph.values[node.inputs[0]]):
        return reason
    moves = MOVES[node.op](node, graph)
    return moves if isinstance(moves, str) else None


def _concat(node: Node, graph: Dfg) -> str | None:
    return unmovable(graph.values[node.inputs[0]])


def split_parts(node: Node, graph: Dfg) -> tuple[Crop, ...]:
    """What each result of a Split is of its input."""
    source = graph.values[node.inputs[0]].shape
    given = node.attributes.get("axis", 0)
    assert isinstance(given, int)
    axis, first = given % len(source), 0
    parts = []
    for name in node.outputs:
        shape = graph.values[name].shape
        start = tuple(first if i == axis else 0 for i in range(len(source)))
        parts.append(Crop(start, (1,) * len(source), shape))
        first += shape[axis]
    return tuple(parts)


def _split(node: Node, graph: Dfg) -> str | None:
    if not all(node.outputs):
        return "it has results without a name"
    return unmovable(graph.values[node.inputs[0]])


def _moving(covers: tuple[str, ...], when: str, *instructions: Opcode) -> Operator:
    return Operator(covers, f"8 bits or float32{when}", _condition, instructions=instructions)


_SHUFFLE: Final = (Opcode.RESHAPE, Opcode.TRANSPOSE)

OPERATORS: Final[Mapping[str, Operator]] = {
    "Concat": Operator(
        ("Concat",),
        "8 bits or float32",
        _concat,
        every,
        instructions=(Opcode.CONCAT, Opcode.LOAD),
    ),
    "DepthToSpace": _moving(("DepthToSpace",), "", *_SHUFFLE),
    "Expand": _moving(("Expand",), "", Opcode.EXPAND),
    "Gather": _moving(("Gather",), "; constant indices", Opcode.GATHER, Opcode.SLICE),
    "Identity": _moving(("Dropout", "Identity"), "", Opcode.RESHAPE),
    "Pad": _moving(
        ("Pad",),
        "; constant padding; with numbers only 8 bits",
        Opcode.PAD,
        Opcode.SLICE,
        Opcode.GATHER,
    ),
    "Reshape": _moving(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), "", Opcode.RESHAPE),
    "Slice": _moving(("Slice",), "; constant starts, ends and steps", Opcode.SLICE, Opcode.GATHER),
    "SpaceToDepth": _moving(("SpaceToDepth",), "", *_SHUFFLE),
    "Split": Operator(("Split",), "8 bits or float32", _split, instructions=(Opcode.SLICE,)),
    "Tile": _moving(("Tile",), "", Opcode.GATHER),
    "Transpose": _moving(("Transpose",), "", Opcode.TRANSPOSE),
}
