"""Whether a card may be leased, from one reading a second of it. PURE: readings in, transitions out.

A card is taken away when something is wrong for long enough to be true, and comes back when nothing has
been wrong for a while: it never changes faster than `HealthPolicy` allows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    bad_readings: int = 2  # in a row; a reading may fall into the very moment of a change
    over_millicelsius: int = 95_000  # a card that is warmer is taken away
    under_millicelsius: int = 85_000  # and comes back only when it is colder than this
    recovery_seconds: float = 10.0  # of good readings only, before a card comes back
    crashes: int = 3  # leases whose worker crashed within `crash_seconds`: something is wrong
    crash_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a card at one moment."""

    alive: bool = True
    temperature_millicelsius: int | None = None  # None: no such sensor, or it is broken
    present: bool = True
    crash_looping: bool = False
    readable: bool = True  # False: `alive` and the temperature say nothing


class Fault(Enum):
    """What takes a card away; the first that applies is the reason."""

    VANISHED = "the card has vanished"
    CRASH_LOOP = "its workers crash one after another"
    UNREADABLE = "the card cannot be read"
    DEAD = "the card does not answer (alive is 0)"
    HOT = "the card is too hot"


# No doubt about these: a card that is not there cannot be waited for, and crashes have been counted.
AT_ONCE: Final = frozenset({Fault.VANISHED, Fault.CRASH_LOOP})


@dataclass(frozen=True, slots=True)
class Unavailable:
    npu: int
    reason: str


@dataclass(frozen=True, slots=True)
class Available:
    npu: int


Transition = Unavailable | Available


@dataclass(slots=True)
class _State:
    """Of one card. `taken` is None while it is available."""

    taken: Fault | None = None
    bad: int = 0  # readings in a row, whatever was wrong
    last: Fault | None = None
    good_since: float | None = None


@dataclass(slots=True)
class CardHealth:
    """The health of all cards. Every card begins as available."""

    policy: HealthPolicy = field(default_factory=HealthPolicy)
    _states: dict[int, _State] = field(default_factory=dict)

    def observe(self, readings: Mapping[int, Reading], now: float) -> tuple[Transition, ...]:
        """One look at all cards, at `now` in monotonic seconds; the changes, by card.

        A card that is taken away once is named again when the reason is another one.
        """
        return tuple(
            transition
            for npu in sorted(readings)
            for transition in self._observe(npu, readings[npu], now)
        )

    @property
    def is_in_doubt(self) -> bool:
        """Whether another look would tell more of a card than the last one did."""
        return any(state.bad and state.taken is None for state in self._states.values())

    def _observe(self, npu: int, reading: Reading, now: float) -> Iterator[Transition]:
        state = self._states.setdefault(npu, _State())
        fault = self._fault(reading, state.taken)
        before, state.last = state.last, fault
        if fault is None:
            state.bad = 0
            if state.good_since is None:
                state.good_since = now
            if state.taken and now - state.good_since >= self.policy.recovery_seconds:
                state.taken = None
                yield Available(npu)
            return
        state.good_since = None
        state.bad += 1
        # gone for one reason already: another one counts when it is read twice
        long_enough = (
            state.bad >= self.policy.bad_readings if state.taken is None else fault is before
        )
        if fault is not state.taken and (long_enough or fault in AT_ONCE):
            state.taken = fault
            yield Unavailable(npu, self._reason(fault, reading))

    def _fault(self, reading: Reading, taken: Fault | None) -> Fault | None:
        if not reading.present:
            return Fault.VANISHED
        if reading.crash_looping:
            return Fault.CRASH_LOOP
        if not reading.readable:
            return Fault.UNREADABLE
        if not reading.alive:
            return Fault.DEAD
        celsius, policy = reading.temperature_millicelsius, self.policy
        if celsius is None:  # a broken sensor takes no card away, and gives none back
            return Fault.HOT if taken is Fault.HOT else None
        limit = policy.over_millicelsius if taken is None else policy.under_millicelsius
        hot = celsius > limit if taken is None else celsius >= limit
        return Fault.HOT if hot else None

    def _reason(self, fault: Fault, reading: Reading) -> str:
        if fault is Fault.HOT and reading.temperature_millicelsius is not None:
            at = reading.temperature_millicelsius / 1000
            back = self.policy.under_millicelsius / 1000
            return f"{fault.value}: {at:.0f} C; it comes back below {back:.0f} C"
        return fault.value


@dataclass(slots=True)
class Crashes:
    """Which cards' workers crash one after another.

    A lease counts once, however many workers it had: one client with a bad program that starts it again
    and again must not take the card from the others.
    """

    policy: HealthPolicy = field(default_factory=HealthPolicy)
    _leases: dict[int, dict[str, float]] = field(default_factory=dict)  # by card: lease, when

    def note(self, npu: int, lease: str, now: float) -> None:
        self._forget(npu, now)
        self._leases.setdefault(npu, {}).setdefault(lease, now)

    def looping(self, npu: int, now: float) -> bool:
        self._forget(npu, now)
        return len(self._leases.get(npu, ())) >= self.policy.crashes

    def _forget(self, npu: int, now: float) -> None:
        oldest = now - self.policy.crash_seconds
        kept = {lease: at for lease, at in self._leases.pop(npu, {}).items() if at > oldest}
        if kept:
            self._leases[npu] = kept
