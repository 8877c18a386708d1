"""What a virtual card can be made to suffer from: frozen values that make sense once they are made.

Each kind has its `name`, as people write it. Whatever is out of bounds raises BadArgument.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from furiosa.common.errors import BadArgument
from furiosa.common.names import DeviceFile

COLDEST, HOTTEST = -40, 200  # degrees Celsius
MOST_RUNS: Final = 1_000_000_000
MOST_DELAY_NS: Final = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Dead:
    """The card does not answer."""

    name: ClassVar[str] = "dead"
    of_cards: ClassVar[bool] = True  # of whole ones only


@dataclass(frozen=True, slots=True)
class Hot:
    """The warmest place of the card has so many degrees Celsius."""

    name: ClassVar[str] = "hot"
    of_cards: ClassVar[bool] = True
    celsius: int = 99

    def __post_init__(self) -> None:
        _check("celsius", self.celsius, COLDEST, HOTTEST)


@dataclass(frozen=True, slots=True)
class Hung:
    """The next run never ends."""

    name: ClassVar[str] = "hung"
    of_cards: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class DmaError:
    """Inputs do not reach the card: one run in `every` fails, and of each device file `count` in all;
    0: no end to it.
    """

    name: ClassVar[str] = "dma-error"
    of_cards: ClassVar[bool] = False
    every: int = 1
    count: int = 0

    def __post_init__(self) -> None:
        _check("every", self.every, 1, MOST_RUNS)
        _check("count", self.count, 0, MOST_RUNS)


@dataclass(frozen=True, slots=True)
class SlowDma:
    """Each run's transfers take that much longer."""

    name: ClassVar[str] = "slow-dma"
    of_cards: ClassVar[bool] = False
    delay_ns: int

    def __post_init__(self) -> None:
        if not 0 < self.delay_ns <= MOST_DELAY_NS:
            raise BadArgument("delay", f"{self.delay_ns / 1e9:g} s", "more than 0 s, 60 s at most")


Fault = Dead | Hot | Hung | DmaError | SlowDma


@dataclass(frozen=True, slots=True)
class FaultView:
    """A fault that stands. `ends_at` in seconds since the epoch; None: until it is cleared."""

    device_file: DeviceFile
    fault: Fault
    ends_at: float | None = None

    def __post_init__(self) -> None:
        if self.fault.of_cards and not self.device_file.cores.is_all:
            whole = f"npu{self.device_file.npu}"
            raise BadArgument(
                "device_file",
                str(self.device_file),
                f"{whole}: a card is {self.fault.name} as a whole",
            )


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadArgument(name, str(value), f"{least} to {most}")
