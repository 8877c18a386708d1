"""Elementary movements of elements: what every operator that only moves elements is made of.

Each stands for one instruction (docs/isa.md) and holds that instruction's constants; a shape is that of the
result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reshape:
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Permute:
    """Axis i of the result is axis `axes[i]` of the source."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crop:
    """Element i of an axis is element start + i * step of the source."""

    start: tuple[int, ...]
    step: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Border:
    """The source with stored `point`s around it, `before[i]` of them at the beginning of axis i."""

    before: tuple[int, ...]
    point: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Axes of one element repeated; numpy's broadcast without new axes."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """Element i of `axis` is element `indices[i]` of the source."""

    axis: int
    indices: tuple[int, ...]
    shape: tuple[int, ...]


Move = Reshape | Permute | Crop | Border | Spread | Take
Moves = tuple[Move, ...]
NOTHING: Final[Moves] = ()


def permute(axes: tuple[int, ...], shape: tuple[int, ...]) -> Permute:
    """`shape` is that of the source."""
    return Permute(axes, tuple(shape[axis] for axis in axes))


def take(axis: int, indices: tuple[int, ...], shape: tuple[int, ...]) -> Take:
    """`shape` is that of the source."""
    return Take(axis, indices, (*shape[:axis], len(indices), *shape[axis + 1 :]))


def by_axis(choices: Sequence[Sequence[int]], shape: tuple[int, ...]) -> Moves:
    """Of each axis the elements chosen, as one Crop where all go up in equal steps, else with Takes.

    `shape` is that of the source; an axis whose elements all stay, best given as a range, costs nothing.
    """
    steps = tuple(map(_step, choices))
    starts = tuple(chosen[0] if step else 0 for chosen, step in zip(choices, steps, strict=True))
    sizes = tuple(
        len(chosen) if step else size
        for chosen, step, size in zip(choices, steps, shape, strict=True)
    )
    moves: list[Move] = []
    if sizes != shape:
        moves.append(Crop(starts, tuple(step or 1 for step in steps), sizes))
    for axis, (chosen, step) in enumerate(zip(choices, steps, strict=True)):
        if not step:
            moves.append(take(axis, tuple(chosen), moves[-1].shape if moves else shape))
    return tuple(moves)


def _step(chosen: Sequence[int]) -> int:
    """The distance of each element to the next when all are equal and positive, else 0."""
    if isinstance(chosen, range):
        return max(chosen.step, 0)
    if len(chosen) == 1:
        return 1
    step = chosen[1] - chosen[0]
    even = step > 0 and chosen == tuple(range(chosen[0], chosen[0] + step * len(chosen), step))
    return step if even else 0
