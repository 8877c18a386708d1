"""Resize: nearest moves elements, linear computes on stored integers.

Coordinates are computed in float32, step by step, as onnxruntime does: where a coordinate is a tie, its last
bit decides which element is the nearest.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.movement import is_given, shapes, unmovable
from furiosa.compiler.dfg.operators.moves import Moves, by_axis
from furiosa.compiler.dfg.operators.operator import Operator
from furiosa.enf.isa import Opcode

_F: Final = np.float32
_HALF: Final = _F(0.5)


_Function = Callable[[np.float32, np.float32, int, int], np.float32]


def _asymmetric(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    return _F(x / scale)


def _half_pixel(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    return _F(_F(_F(x + _HALF) / scale) - _HALF)


def _half_pixel_symmetric(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    adjustment = _F(_F(after) / _F(scale * _F(before)))
    offset = _F(_F(_F(before) / _F(2)) * _F(_F(1) - adjustment))
    return _F(_F(offset + _F(_F(x + _HALF) / scale)) - _HALF)


def _pytorch_half_pixel(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    return _half_pixel(x, scale, after, before) if after > 1 else _F(0)


def _tf_half_pixel_for_nn(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    return _F(_F(x + _HALF) / scale)


def _align_corners(x: np.float32, scale: np.float32, after: int, before: int) -> np.float32:
    return _F(0) if after == 1 else _F(_F(x * _F(before - 1)) / _F(after - 1))


_COORDINATES: Final[Mapping[str, _Function]] = {
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
}


def _round_prefer_floor(x: np.float32) -> int:
    return math.floor(x) if x - np.floor(x) == _HALF else math.floor(float(x) + 0.5)


_NEAREST: Final[Mapping[str, Callable[[np.float32], int]]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round_prefer_ceil": lambda x: math.floor(float(x) + 0.5),
    "round_prefer_floor": _round_prefer_floor,
}


def _text(node: Node, key: str, default: str) -> str:
    given = node.attributes.get(key, default)
    assert isinstance(given, str)
    return given


def _scales(node: Node, graph: Dfg) -> tuple[np.float32, ...] | str:
    """Of every axis: as given, or by the sizes."""
    source, result = shapes(node, graph)
    held = node.attributes.get("axes", tuple(range(len(source))))
    assert isinstance(held, tuple)
    axes = [int(axis) for axis in held]
    if node.attributes.get("antialias", 0):
        return "it smooths before it shrinks (antialias)"
    given = graph.data(node.inputs[2]) if is_given(node, 2) else None
    if given is not None and given.size:
        scales = [_F(1)] * len(source)
        if given.size != len(axes) or not (np.isfinite(given) & (given > 0)).all():
            return f"its scales are {given.tolist()}"
        for axis, scale in zip(axes, given.ravel().astype(_F), strict=True):
            scales[axis] = scale
        return tuple(scales)
    if not is_given(node, 3):
        return "its scales are not constant"
    policy = _text(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return f"its keep_aspect_ratio_policy is {policy}"
    return tuple(_F(after) / _F(before) for before, after in zip(source, result, strict=True))


def _coordinates(node: Node, graph: Dfg) -> _Function | str:
    mode = _text(node, "coordinate_transformation_mode", "half_pixel")
    return _COORDINATES.get(mode, f"its coordinate_transformation_mode is {mode}")


def _places(
    function: _Function, before: int, after: int, scale: np.float32
) -> Sequence[np.float32]:
    """Where in the source each index of an axis of the result lies."""
    return [function(_F(i), scale, after, before) for i in range(after)]


def nearest(node: Node, graph: Dfg) -> Moves | str:
    mode = _text(node, "mode", "nearest")
    if mode != "nearest":
        return f"its mode is {mode}, and its result is not quantised"
    rounding = _text(node, "nearest_mode", "round_prefer_floor")
    if rounding not in _NEAREST:
        return f"its nearest_mode is {rounding}"
    function, scales = _coordinates(node, graph), _scales(node, graph)
    if isinstance(function, str):
        return function
    if isinstance(scales, str):
        return scales
    source, result = shapes(node, graph)
    chosen: list[Sequence[int]] = []
    for before, after, scale in zip(source, result, scales, strict=True):
        if scale == 1 and before == after:
            chosen.append(range(before))
            continue
        found = (_NEAREST[rounding](x) for x in _places(function, before, after, scale))
        chosen.append(tuple(min(max(index, 0), before - 1) for index in found))
    return by_axis(chosen, source)


Line = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]


def linear(node: Node, graph: Dfg) -> tuple[Line, Line] | str:
    """For rows and for columns of the result: the two between which each lies, and the second's weight."""
    mode = _text(node, "mode", "nearest")
    source, result = shapes(node, graph)
    if mode != "linear":
        return f"its mode is {mode}"
    if len(source) != 4 or source[:2] != result[:2]:
        return f"it makes {list(result)} of {list(source)}; height and width can change"
    function, scales = _coordinates(node, graph), _scales(node, graph)
    if isinstance(function, str):
        return function
    if isinstance(scales, str):
        return scales
    rows, columns = (
        _line(_places(function, before, after, scale), before)
        for before, after, scale in zip(source[2:], result[2:], scales[2:], strict=True)
    )
    return rows, columns


def _line(found: Sequence[np.float32], size: int) -> Line:
    places = [min(max(x, _F(0)), _F(size - 1)) for x in found]
    first = tuple(int(x) for x in places)
    second = tuple(min(x + 1, size - 1) for x in first)
    weights = tuple(float(_F(x - _F(low))) for x, low in zip(places, first, strict=True))
    return first, second, weights


def _nearest(node: Node, graph: Dfg) -> str | None:
    if reason := unmovable(graph.values[node.inputs[0]]):
        return reason
    moves = nearest(node, graph)
    return moves if isinstance(moves, str) else None


def _linear(node: Node, graph: Dfg) -> str | None:
    lines = linear(node, graph)
    return lines if isinstance(lines, str) else None


OPERATORS: Final[Mapping[str, Operator]] = {
    "QResize": Operator(
        ("Resize", "Upsample"),
        "mode linear, of height and width; every coordinate mode but tf_crop_and_resize",
        _linear,
        stores=True,
        instructions=(Opcode.RESIZE_LINEAR,),
    ),
    "Resize": Operator(
        ("Resize", "Upsample"),
        "mode nearest; every coordinate mode but tf_crop_and_resize",
        _nearest,
        instructions=(Opcode.GATHER, Opcode.SLICE),
    ),
}
