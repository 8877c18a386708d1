"""How many streams of a plugin the kubelet reads: what it stops to read, it has forgotten."""

import contextlib
import time
from collections.abc import Iterator

from furiosa.common.clock import Clock


class Streams:
    """Counts them. `idle_seconds` since the last one ended, or since the count was made."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self.open = 0
        self.ever = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A stream, as long as it is read."""
        self.open += 1
        self.ever += 1
        try:
            yield
        finally:
            self.open -= 1
            self._since = self._clock()

    @property
    def idle_seconds(self) -> float:
        return 0.0 if self.open else self._clock() - self._since

    def start_anew(self) -> None:
        """Nobody has had the time to come yet."""
        self._since = self._clock()
        self.ever = self.open
