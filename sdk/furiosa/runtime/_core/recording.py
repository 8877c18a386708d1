"""Who records inferences at the moment. Imported by every runner, so it is small."""

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from furiosa.common.names import DeviceFile
    from furiosa.queuepair import Completion
    from furiosa.runtime._core.spans import Place

# Read by each call of a runner, and empty nearly always; replaced as a whole, under `_changing`.
active: tuple["Recording", ...] = ()
# Where everything goes that this process records; profilers record nothing meanwhile.
whole_process: str | None = None
_changing = threading.Lock()
# the span that `record` has open around the calls of this thread or task
around: "ContextVar[Place | None]" = ContextVar("around", default=None)


class Timed:
    """When the parts of a call were. ns of CLOCK_MONOTONIC; valid once it has ended well."""

    __slots__ = ("begun", "completion", "device", "ended", "submitted")

    completion: "Completion"
    device: "DeviceFile"

    def __init__(self) -> None:
        self.begun = self.submitted = self.ended = time.monotonic_ns()

    def submit(self) -> None:
        """Its inputs are where the device sees them."""
        self.submitted = time.monotonic_ns()

    def end(self, device: "DeviceFile", completion: "Completion") -> None:
        self.ended = time.monotonic_ns()
        self.device, self.completion = device, completion


class Recording:
    """Collects entries while it is active and not paused. What the entries are is not its business."""

    def __init__(self) -> None:
        self.entries: list[Any] = []  # append is atomic, and all that threads do to it
        self.paused = False
        # The wall clock may be set meanwhile; spans must not jump with it.
        self.offset = time.time_ns() - time.monotonic_ns()

    def begin(self) -> None:
        global active
        with _changing:
            active = (*active, self)

    def begin_in_child(self) -> None:
        """As the only one of a process just forked, in which a lock may be held for ever."""
        global active, _changing
        _changing = threading.Lock()
        active = (self,)

    def end(self) -> None:
        """What is under way now is not recorded any more."""
        global active
        with _changing:
            active = tuple(recording for recording in active if recording is not self)


def add(entry: Any) -> None:
    for recording in active:
        if not recording.paused:
            recording.entries.append(entry)


class Sampling:
    """Which inferences of a model are measured step by step, while somebody records.

    That takes a quarter longer for a network of a few ms. So the first `WHOLE` are, which is all of a
    short recording, and then one in `EVERY`, which costs 2 %.
    """

    WHOLE = 32
    EVERY = 12

    def __init__(self) -> None:
        self._made = 0

    def next(self) -> bool:
        self._made += 1
        return self._made <= self.WHOLE or self._made % self.EVERY == 0
