"""How much the cores were used: sums of what their performance counters said. PURE.

The counters of a device file can be read while it is in use. They are 32 bits wide, so they have to be read
more often than they wrap, and they begin at 0 with their card: the sums here never run backwards.
Source: devices reference 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.views import CardTexts
from furiosa.sysfs import BadCounters, Card, CounterReading, increase

READ_SECONDS: Final = 1.0  # at 2 GHz they wrap after 2.1 s


@dataclass(frozen=True, slots=True)
class CoreUse:
    """`utilization` is a fraction of the time since it was taken before; None: there is no such time yet."""

    cycles: int  # counted while the core was in use
    task_cycles: int  # those of them in which a program ran
    utilization: float | None


@dataclass(slots=True)
class _Sum:
    cycles: int = 0
    task_cycles: int = 0
    busy_ns: float = 0.0  # since it was taken

    def add(self, counted: CounterReading, elapsed_ns: int) -> None:
        self.cycles += counted.cycle
        self.task_cycles += counted.task
        self.busy_ns += elapsed_ns * counted.task / counted.cycle if counted.cycle else 0.0


class CoreUses:
    """Of all cards, which are known by UUID. What was read is counted from the second time on."""

    def __init__(self) -> None:
        self._last: dict[str, dict[DeviceFile, CounterReading]] = {}
        self._sums: dict[tuple[str, int], _Sum] = {}
        self._taken_ns: dict[str, int] = {}

    def feed(self, card: Card, counters: CardTexts) -> None:
        before = self._last.get(card.uuid, {})
        self._last[card.uuid] = now = _readings(card, counters)
        counted: dict[int, tuple[CounterReading, int]] = {}
        for file, reading in now.items():
            if file not in before or reading.at_ns <= before[file].at_ns:
                continue
            found = increase(before[file], reading), reading.at_ns - before[file].at_ns
            for core in (core for core in card.cores if core in file.cores):
                # files that overlap tell of the same core
                counted[core] = max(counted.get(core, found), found, key=lambda each: each[0].task)
        for core, (increased, elapsed_ns) in counted.items():
            self._sums.setdefault((card.uuid, core), _Sum()).add(increased, elapsed_ns)

    def take(self, card: Card, now_ns: int) -> Mapping[int, CoreUse]:
        """By core. `now_ns` is monotonic; the next utilization is of the time from then on."""
        window = now_ns - self._taken_ns.get(card.uuid, now_ns)
        self._taken_ns[card.uuid] = now_ns
        found = {}
        for core in card.cores:
            sum_ = self._sums.setdefault((card.uuid, core), _Sum())
            busy = min(sum_.busy_ns / window, 1.0) if window > 0 else None
            sum_.busy_ns = 0.0
            found[core] = CoreUse(sum_.cycles, sum_.task_cycles, busy)
        return found


def _readings(card: Card, counters: CardTexts) -> dict[DeviceFile, CounterReading]:
    found = {}
    for file in card.device_files:
        try:
            found[file] = CounterReading.parse(counters.files[str(file)], counters.at_ns)
        except (KeyError, BadCounters):
            continue  # it is not in use
    return found
