"""Chains of operators that move elements, in random order."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from support.random_graph import RandomGraph, Shape, Stored, fits

_Move = Callable[[RandomGraph, str, Stored], tuple[str, Shape] | None]


def _reshape(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape]:
    first, *rest = x.shape or (1,)
    if len(rest) > 1 and g.chance(0.5):
        at = int(g.rng.integers(len(rest) - 1))
        shape = (first, *rest[:at], rest[at] * rest[at + 1], *rest[at + 2 :])
    else:
        size = math.prod(rest)
        part = g.pick(*(n for n in range(1, size + 1) if size % n == 0))
        shape = (first, part, size // part, 1)[: g.pick(3, 4)]
    literal = g.pick(0, first) if x.shape else first
    return g.net.node("Reshape", y, g.ints((literal, *shape[1:]))), shape


def _flatten(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if not x.shape:
        return None
    return g.net.node("Flatten", y, axis=1), (x.shape[0], math.prod(x.shape[1:]))


def _unsqueeze(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if not 1 <= len(x.shape) < 5:
        return None
    at = g.upto(len(x.shape))
    return g.net.node("Unsqueeze", y, g.ints([at])), (*x.shape[:at], 1, *x.shape[at:])


def _squeeze(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    ones = [axis for axis, size in enumerate(x.shape) if axis and size == 1]
    if not ones:
        return None
    at = g.pick(*ones)
    return g.net.node("Squeeze", y, g.ints([at])), (*x.shape[:at], *x.shape[at + 1 :])


def _transpose(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) < 2:
        return None
    kept = 1 if g.batched else 0
    order = (*range(kept), *(int(a) + kept for a in g.rng.permutation(len(x.shape) - kept)))
    return g.net.node("Transpose", y, perm=order), tuple(x.shape[axis] for axis in order)


def _slice(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) < 2:
        return None
    axes = sorted(set(g.rng.integers(1, len(x.shape), 2).tolist()))
    starts: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    shape = list(x.shape)
    for axis in axes:
        size = shape[axis]
        start, step = int(g.rng.integers(size)), g.pick(1, 1, 2, -1, -2)
        end = size if step > 0 else -size - 1
        if g.chance(0.5):  # as counted from the end
            start -= size
        for numbers, number in ((starts, start), (ends, end), (steps, step)):
            numbers.append(number)
        shape[axis] = len(range(size)[slice(start, end, step)])
    given = [axis - len(shape) if g.chance(0.3) else axis for axis in axes]
    return g.net.node("Slice", y, *map(g.ints, (starts, ends, given, steps))), tuple(shape)


def _pad(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    rank = len(x.shape)
    if rank < 2:
        return None
    mode = g.pick("constant", "constant", "edge", "reflect")
    least = -1 if mode == "constant" else 0
    before, after = [0] * rank, [0] * rank
    for axis in range(1, rank):
        size = x.shape[axis]
        most = size - 1 if mode == "reflect" else 3
        before[axis] = int(g.rng.integers(min(least, most), min(2, most) + 1))
        after[axis] = int(g.rng.integers(min(least, most), min(2, most) + 1))
        if size + before[axis] + after[axis] < 1 or (size < 2 and least < 0):
            before[axis] = after[axis] = 0
    value = []
    if mode == "constant" and g.chance(0.6):
        held = x.scale * g.upto(20) if g.chance(0.5) else float(g.rng.uniform(-1, 1) * x.reach)
        value = [g.net.constant(np.float32(held))]
    shape = tuple(n + b + a for n, b, a in zip(x.shape, before, after, strict=True))
    return g.net.node("Pad", y, g.ints((*before, *after)), *value, mode=mode), shape


def _gather(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) < 2:
        return None
    axis = g.upto(len(x.shape) - 1)
    size = x.shape[axis]
    wanted = g.pick((), (3,), (2, 2), (size,))
    places = g.rng.integers(-size, size, wanted)
    made = g.net.node("Gather", y, g.net.constant(np.array(places, np.int64)), axis=axis)
    return made, (*x.shape[:axis], *wanted, *x.shape[axis + 1 :])


def _tile(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if not x.shape:
        return None
    times = [1 if axis == 0 and g.batched else g.pick(1, 1, 2, 3) for axis in range(len(x.shape))]
    return g.net.node("Tile", y, g.ints(times)), tuple(
        n * t for n, t in zip(x.shape, times, strict=True)
    )


def _expand(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    shape = tuple(g.pick(1, 3) if size == 1 and axis else size for axis, size in enumerate(x.shape))
    wide = (1, *shape[1:]) if shape else ()
    if not g.batched and g.chance(0.3):
        shape = wide = (2, *shape)
    return g.net.node("Expand", y, g.ints(wide)), shape


def _resize(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) != 4:
        return None
    *outer, h, w = x.shape
    factors = [g.pick(1, 2, 3, 1.5) for _ in range(2)]
    made = g.net.node(
        "Resize",
        y,
        "",
        g.floats([1, 1, *factors]),
        mode="nearest",
        coordinate_transformation_mode=g.pick("asymmetric", "half_pixel", "align_corners"),
        nearest_mode=g.pick("round_prefer_floor", "floor", "ceil"),
    )
    return made, (*outer, math.floor(h * factors[0]), math.floor(w * factors[1]))


def _depth_to_space(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) != 4 or x.shape[1] % 4:
        return None
    n, c, h, w = x.shape
    mode = g.pick("DCR", "CRD")
    return g.net.node("DepthToSpace", y, blocksize=2, mode=mode), (n, c // 4, h * 2, w * 2)


def _space_to_depth(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape] | None:
    if len(x.shape) != 4 or x.shape[2] % 2 or x.shape[3] % 2:
        return None
    n, c, h, w = x.shape
    return g.net.node("SpaceToDepth", y, blocksize=2), (n, c * 4, h // 2, w // 2)


def _same(g: RandomGraph, y: str, x: Stored) -> tuple[str, Shape]:
    return g.net.node(g.pick("Identity", "Dropout"), y), x.shape


_MOVES: Final[tuple[_Move, ...]] = (
    _depth_to_space,
    _expand,
    _flatten,
    _gather,
    _pad,
    _reshape,
    _resize,
    _same,
    _slice,
    _space_to_depth,
    _squeeze,
    _tile,
    _transpose,
    _unsqueeze,
)


def chain(g: RandomGraph) -> None:
    """Up to four, with nothing in between; stored as before or in another way."""
    start = g.one()
    y, x, moved = g.real(start), start, 0
    for move in g.rng.permutation(len(_MOVES)):
        made = _MOVES[move](g, y, x)
        if made is None or not fits(made[1]) or (g.batched and made[1][:1] != (1,)):
            continue
        y, moved = made[0], moved + 1
        x = Stored("", made[1], x.scale, x.zero, x.dtype)
        if moved == g.upto(4):
            break
    g.store(y, x.shape, x.reach, like=g.pick(start, start, None))


def concat(g: RandomGraph) -> None:
    """Of values and constants that agree but in one axis; one may come without having been stored."""
    x = g.one(2, 3, 4)
    axis = g.upto(len(x.shape) - 1)
    found = [
        v
        for v in g.values
        if len(v.shape) == len(x.shape)
        and all(i == axis or a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)))
    ]
    chosen = [g.pick(*found) for _ in range(g.upto(3))]
    parts = [g.real(v) for v in chosen]
    sizes = [v.shape[axis] for v in chosen]
    if not g.batched and g.chance(0.4):
        shape = tuple(2 if i == axis else size for i, size in enumerate(x.shape))
        given = g.pick((x.scale, x.zero, x.dtype), (g.scale(0.1), 3, np.int8))
        scale, zero, dtype = given
        parts.append(g.net.stored(*shape, scale=scale, zero=zero, dtype=dtype))
        sizes.append(2)
    if g.chance(0.3) and len(x.shape) == 4:
        w = g.net.stored(x.shape[1], x.shape[1], 1, 1, scale=g.scale(0.01))
        parts.append(g.net.node("Conv", g.real(x), w))
        sizes.append(x.shape[axis])
    shape = tuple(sum(sizes) if i == axis else size for i, size in enumerate(x.shape))
    if fits(shape):
        made = g.net.node("Concat", *parts, axis=g.pick(axis, axis - len(shape)))
        g.store(made, shape, max(v.reach for v in chosen), like=g.pick(x, None))


def split(g: RandomGraph) -> None:
    x = g.one(2, 3, 4)
    axis = g.upto(len(x.shape) - 1)
    size = x.shape[axis]
    count = min(g.pick(2, 3), size)
    sizes = [size // count] * (count - 1)
    sizes.append(size - sum(sizes))
    names = [f"{g.net.node('Split', g.real(x), g.ints(sizes), axis=axis)}"]
    node = g.net.nodes[-1]
    names += [f"{names[0]}/{i}" for i in range(1, count)]
    node.output.extend(names[1:])
    for name, part in zip(names, sizes, strict=True):
        if g.chance(0.8):
            shape = tuple(part if i == axis else n for i, n in enumerate(x.shape))
            g.store(name, shape, x.reach, like=g.pick(x, None))
