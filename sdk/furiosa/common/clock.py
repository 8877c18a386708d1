"""Time as an argument: parts that decide take a `Clock`; tests hand them one they move by hand."""

from collections.abc import Callable

Clock = Callable[[], float]  # seconds, monotonic


class ManualClock:
    """A clock that stands still until `advance`."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
