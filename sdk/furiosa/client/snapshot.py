"""A state at one moment, as a watch tells it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[_T]):
    """All there is. `revision` grows with every change, also over restarts of the broker."""

    revision: int
    items: tuple[_T, ...]
