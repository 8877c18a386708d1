"""What the methods of a device return. Source: device API reference 2 and 5."""

from dataclasses import dataclass
from enum import Enum
from typing import Self

from furiosa.common.names import CoreRange as Cores
from furiosa.sysfs import CounterReading, increase, utilisation


class Arch(Enum):
    """Generations of cards. Warboy is its revision B0; both names are in use."""

    WarboyA0 = "warboy-a0"
    Warboy = "warboy"
    WarboyB0 = "warboy"
    Renegade = "renegade"
    RNGD = "rngd"
    U250 = "u250"

    def __repr__(self) -> str:
        return f"Arch.{self.name}"


class DeviceMode(Enum):
    """What a device file stands for: one PE, several as one, or the whole card."""

    Single = "single"
    Fusion = "fusion"
    MultiCore = "multicore"

    def __repr__(self) -> str:
        return f"DeviceMode.{self.name}"


class CoreStatusType(Enum):
    Available = "available"
    Occupied = "occupied"
    Unavailable = "unavailable"

    def __repr__(self) -> str:
        return f"CoreStatusType.{self.name}"


@dataclass(frozen=True, slots=True, repr=False)
class CoreStatus:
    """Whether a core can be had. `value`: the file that an occupied one is held through, else None."""

    status_type: CoreStatusType
    value: str | None = None

    def __repr__(self) -> str:
        if self.status_type is CoreStatusType.Occupied:
            return f"Occupied by {self.value}"
        return self.status_type.name


class CoreRangeType(Enum):
    All = "all"
    Range = "range"

    def __repr__(self) -> str:
        return f"CoreRangeType.{self.name}"


@dataclass(frozen=True, slots=True, repr=False)
class CoreRange:
    """The cores of a device file. `value`: first and last, both included; None for the whole card."""

    range_type: CoreRangeType
    value: tuple[int, int] | None = None

    @classmethod
    def of(cls, cores: Cores) -> Self:
        if cores.is_all:
            return cls(CoreRangeType.All)
        return cls(CoreRangeType.Range, (cores.first, cores.last))

    def contains(self, idx: int) -> bool:
        return self.value is None or self.value[0] <= idx <= self.value[1]

    def __repr__(self) -> str:
        return "All" if self.value is None else f"Range {self.value}"


@dataclass(frozen=True, slots=True, repr=False)
class SensorValue:
    """`value` in mA, mV, µW or m°C."""

    label: str
    value: int

    def __repr__(self) -> str:
        return f"{self.label}: {self.value}"


@dataclass(frozen=True, slots=True, repr=False)
class NeClockFrequency:
    name: str
    unit: str
    value: int

    def __repr__(self) -> str:
        return f"{self.name:<15} : {self.value} {self.unit}"


@dataclass(frozen=True, slots=True, repr=False)
class Utilization:
    """Use between two readings of counters: fractions, 0 to 1; all 0 when nothing ran."""

    _npu: float
    _computation: float
    _io: float

    def npu_utilization(self) -> float:
        """Of the time between the readings."""
        return self._npu

    def computation_ratio(self) -> float:
        """Of the time in use."""
        return self._computation

    def io_ratio(self) -> float:
        """The rest of the time in use."""
        return self._io

    def __repr__(self) -> str:
        return f"NPU Utilization {self._npu}"


@dataclass(frozen=True, slots=True, repr=False)
class PerformanceCounter:
    """One reading of the counters of a device file, in cycles of the card's counter clock."""

    _reading: CounterReading

    def cycle_count(self) -> int:
        return self._reading.cycle

    def task_execution_cycle(self) -> int:
        """Cycles in which a program ran."""
        return self._reading.task

    def tensor_execution_cycle(self) -> int:
        """Those of them in which the tensor unit computed."""
        return self._reading.tensor

    def calculate_increased(self, other: "PerformanceCounter") -> "PerformanceCounter":
        """What was counted between the two, whichever is newer."""
        return PerformanceCounter(increase(self._reading, other._reading))

    def calculate_utilization(self, other: "PerformanceCounter") -> Utilization:
        """Use between the two, whichever is newer."""
        use = utilisation(self._reading, other._reading)
        return Utilization(use.npu, use.computation, use.io)

    def __repr__(self) -> str:
        reading = self._reading
        return f"PerformanceCounter {reading.cycle} {reading.task} {reading.tensor}"
