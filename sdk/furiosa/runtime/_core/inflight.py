"""Runs in flight on one loaded program: slots, who waits for what, and who reads the completions.

A run passes WAITING (no slot is free), PLACED (it owns a slot and fills it), SUBMITTED, DONE (its slot
is still its own, until it has read the outputs and leaves). A run that leaves while SUBMITTED, because
it was cancelled, keeps its slot taken until the completion has come: the device still writes there.

Nobody is employed to read completions. Among the runs that wait, one *leads*: it waits for the queues
and hands every completion to the run it belongs to; the others *follow*, each asleep on a signal of its
own. A leader that has what it came for wakes one follower, which leads next. So a lone caller pays for
no hand-over, and no task or thread outlives its call.

Nothing here locks or waits. Callers hold the runner's lock; signals returned are theirs to set. The
leader sleeps on the queues, where nothing tells it that it has been given a slot: for that there is `ring`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import count
from typing import Protocol

from furiosa.queuepair import Completion, Slots
from furiosa.runtime._core.errors import FuriosaRuntimeError


class Signal(Protocol):
    """An event that one run sleeps on."""

    def set(self) -> object: ...


class Stage(Enum):
    WAITING = "waiting"
    PLACED = "placed"
    SUBMITTED = "submitted"
    DONE = "done"


# Reading a member through its class costs as much as a call.
_WAITING, _PLACED, _SUBMITTED, _DONE = Stage


Outcome = Completion | FuriosaRuntimeError  # an error: all runs were failed together by it


class Run:
    """One call of `run`. `device` and `slot` are valid from PLACED on, `outcome` from DONE on."""

    __slots__ = ("device", "id", "outcome", "slot", "stage")

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.stage = _WAITING
        self.device = -1
        self.slot = -1  # byte offset in the arena of its device
        self.outcome: Outcome | None = None

    @property
    def asleep(self) -> bool:
        """Whether there is nothing for its owner to do but wait."""
        return self.stage is _WAITING or self.stage is _SUBMITTED


class InFlight:
    """`slots`: those of each device, in the order of the lease. `ring` wakes the leader."""

    def __init__(self, slots: Sequence[Slots], ring: Callable[[], None]) -> None:
        self._slots = tuple(slots)
        self._ring = ring
        self._load = [0] * len(self._slots)  # slots taken, per device
        self._ids = count(1)
        self._owned: set[Run] = set()  # entered, not left
        self._submitted: dict[int, Run] = {}
        self._waiting: deque[Run] = deque()
        self._followers: dict[Run, Signal] = {}
        self._leader: Run | None = None
        self._drained: list[Signal] = []
        self.failure: FuriosaRuntimeError | None = None

    def enter(self, resident: int | None = None) -> Run:
        """A new run, PLACED on the least busy device, or WAITING for a slot, first come first served.

        Between equally busy devices the one that has the inputs already, `resident`, wins. Not to be
        called after `fail`.
        """
        run = Run(next(self._ids))
        device = self._least_busy(resident) if len(self._load) > 1 else 0
        slot = self._slots[device].take()
        if slot is None:  # the least busy one is full, so all are
            self._waiting.append(run)
        else:
            self._load[device] += 1
            run.stage = _PLACED
            run.device = device
            run.slot = slot
        self._owned.add(run)
        return run

    def submit(self, run: Run) -> None:
        """Its record is about to be in the queue."""
        run.stage = _SUBMITTED
        self._submitted[run.id] = run

    def complete(self, completion: Completion) -> Sequence[Signal]:
        run = self._submitted.pop(completion.id)
        if run not in self._owned:
            return self._free(run)
        run.stage = _DONE
        run.outcome = completion
        return self._woken(run)

    def leave(self, run: Run) -> Sequence[Signal]:
        """The owner goes: with its outputs, with an error, or cancelled at any stage; it leads no more."""
        self._owned.remove(run)
        if self._followers:
            self._followers.pop(run, None)
        if self._leader is run:
            self._leader = None
        signals: list[Signal] = []
        if self.failure is None:
            if run.stage is _WAITING:
                self._waiting.remove(run)
            elif run.stage is not _SUBMITTED:
                signals += self._free(run)
        if self._drained and not self._owned:
            signals += self._drained
            self._drained.clear()
        if self._followers:
            signals += self._promoted()
        return signals

    def fail(self, failure: FuriosaRuntimeError) -> Sequence[Signal]:
        """Every run is DONE with this outcome and nothing can enter; the first failure stays."""
        if self.failure is not None:
            return ()
        self.failure = failure
        for run in self._owned:
            if run.stage is not _DONE:
                run.stage = _DONE
                run.outcome = failure
        self._waiting.clear()
        self._submitted.clear()
        signals = list(self._followers.values())
        self._followers.clear()
        if self._leader is not None:
            self._ring()
        return signals

    def lead(self, run: Run) -> bool:
        """Whether `run` is now the one that reads completions."""
        if self._leader is None:
            self._leader = run
        return self._leader is run

    def follow(self, run: Run, signal: Signal) -> None:
        """Sleep until `signal` is set; then look whether `run` is still asleep, and try to lead."""
        self._followers[run] = signal

    def resign(self, run: Run) -> Sequence[Signal]:
        """No effect on one that does not lead."""
        if self._leader is not run:
            return ()
        self._leader = None
        return self._promoted()

    def drain(self, signal: Signal) -> bool:
        """Whether no run is left; if not, `signal` is set when the last one leaves."""
        if self._owned:
            self._drained.append(signal)
            return False
        return True

    @property
    def lone(self) -> bool:
        """Whether there is one run only."""
        return len(self._owned) == 1

    @property
    def unfinished(self) -> int:
        """Runs that wait for a device or are on one, be it that their owners have left."""
        gone = sum(run not in self._owned for run in self._submitted.values())
        return gone + sum(run.stage is not _DONE for run in self._owned)

    @property
    def unused(self) -> bool:
        return self._leader is None and not self._owned

    def busy(self, device: int) -> bool:
        """Whether completions may be on their way from it."""
        return self._load[device] > 0

    def check(self) -> None:
        """Raises: AssertionError when the parts disagree. For tests."""
        if self.failure is not None:
            assert not self._submitted
            assert not self._waiting
            assert not self._followers
            return
        holders = [run for run in self._owned if run.stage is not _WAITING]
        holders += [run for run in self._submitted.values() if run not in self._owned]
        for device, slots in enumerate(self._slots):
            here = [run.slot for run in holders if run.device == device]
            assert len(here) == len(set(here)) == self._load[device] <= slots.count
        assert not self._waiting or sum(self._load) == sum(s.count for s in self._slots)
        assert set(self._waiting) == {r for r in self._owned if r.stage is _WAITING}
        assert self._followers.keys() <= {run for run in self._owned if run.asleep}

    def _least_busy(self, resident: int | None) -> int:
        least = min(self._load)
        if resident is not None and self._load[resident] == least:
            return resident
        return self._load.index(least)

    def _free(self, run: Run) -> Sequence[Signal]:
        if self._waiting:
            heir = self._waiting.popleft()
            heir.stage, heir.device, heir.slot = _PLACED, run.device, run.slot
            if heir is self._leader:
                self._ring()
            return self._woken(heir)
        self._slots[run.device].give(run.slot)
        self._load[run.device] -= 1
        return ()

    def _woken(self, run: Run) -> Sequence[Signal]:
        signal = self._followers.pop(run, None) if self._followers else None
        return () if signal is None else (signal,)

    def _promoted(self) -> Sequence[Signal]:
        if self._leader is not None or not self._followers:
            return ()
        return self._woken(next(iter(self._followers)))
