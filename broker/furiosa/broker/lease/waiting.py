"""The queue of requests that wait: strict first come, first served, for each device."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from furiosa.broker.lease.states import Requested
from furiosa.common.names import DeviceFile


@dataclass(frozen=True, slots=True)
class Waiter:
    requested: Requested
    deadline: float


class WaitingLine:
    """Waiters in the order they came."""

    def __init__(self) -> None:
        self._line: dict[int, Waiter] = {}

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._line.values()))

    def __len__(self) -> int:
        return len(self._line)

    def append(self, requested: Requested) -> None:
        assert requested.deadline is not None
        self._line[requested.request] = Waiter(requested, requested.deadline)

    def remove(self, request: int) -> None:
        """No effect on one that does not wait."""
        self._line.pop(request, None)

    def next_deadline(self) -> float:
        """inf when nobody waits, or everybody does for ever."""
        return min((w.deadline for w in self._line.values()), default=math.inf)


def wanted_by(requested: Requested, files: Collection[DeviceFile]) -> list[DeviceFile]:
    """Files that could serve the request one day.

    Nobody who came later may take them, or a stream of small requests would starve a big one.
    """
    return [f for f in files if any(item.matches(f) for item in requested.spec.items)]
