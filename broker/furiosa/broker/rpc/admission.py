"""How many calls may be open at once: of each caller, and in all, on every gRPC listener together.

A call that waits costs memory and a place; those of one caller must leave room for the others'. Connections
of the handoff socket are bounded as callers are, each by itself.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.errors import LimitExceeded


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Calls at once. `name` says of what, in the refusal."""

    name: str
    each: int
    total: int


CALLS: Final = Bound("calls at once", 128, 16_000)
_WAITING: Final = Bound("requests for devices at once", 64, 8_192)
_MEASURING: Final = Bound("measurements of utilization at once", 4, 64)  # each looks at every card
_INSPECTING: Final = Bound("inspections at once", 4, 64)  # each has a thread that reads sysfs
_WATCHING: Final = Bound("watches at once", 16, 4_096)

BOUNDS: Final[Mapping[str, Bound]] = {
    "Leases/Acquire": _WAITING,
    "Devices/Utilization": _MEASURING,
    "Devices/Inspect": _INSPECTING,
    "Devices/Watch": _WATCHING,
    "Devices/WatchProcesses": _WATCHING,
    "Leases/Watch": _WATCHING,
}


class Admission:
    """Counts. Callers without a name are one caller, who may have a quarter of everything."""

    def __init__(self) -> None:
        self._total: dict[Bound, int] = {}
        self._each: dict[tuple[Bound, Hashable], int] = {}

    def call(self, method: str, caller: Hashable | None) -> "_Places":
        """For a `with` statement. Raises: LimitExceeded."""
        self._enter(CALLS, caller)
        bound = BOUNDS.get(method)
        if bound is not None:
            try:
                self._enter(bound, caller)
            except LimitExceeded:
                self._leave(CALLS, caller)
                raise
        return _Places(self, bound, caller)

    def _enter(self, bound: Bound, caller: Hashable | None) -> None:
        most = bound.each if caller is not None else bound.total // 4
        key = (bound, caller)
        each, total = self._each.get(key, 0), self._total.get(bound, 0)
        if each >= most:
            raise LimitExceeded(f"{bound.name} of one caller", each + 1, most)
        if total >= bound.total:
            raise LimitExceeded(f"{bound.name} of all", total + 1, bound.total)
        self._each[key] = each + 1
        self._total[bound] = total + 1

    def _leave(self, bound: Bound, caller: Hashable | None) -> None:
        key = (bound, caller)
        self._total[bound] -= 1
        self._each[key] -= 1
        if not self._each[key]:
            del self._each[key]


class _Places:
    """Given back at the end of the `with` statement."""

    __slots__ = ("_admission", "_bound", "_caller")

    def __init__(self, admission: Admission, bound: Bound | None, caller: Hashable | None) -> None:
        self._admission = admission
        self._bound = bound
        self._caller = caller

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._admission._leave(CALLS, self._caller)
        if self._bound is not None:
            self._admission._leave(self._bound, self._caller)
