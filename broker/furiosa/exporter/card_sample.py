"""What a card says, as numbers. PURE. What it does not say, or says in another form, is absent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from furiosa.common.views import CardPart, CardTexts
from furiosa.exporter.core_use import CoreUse
from furiosa.exporter.sources import Seen
from furiosa.sysfs import Card, DeviceFault, Kind, values

_T = TypeVar("_T")
_NOTHING: Final = CardTexts(0, {}, {})
_CORE_CLOCK: Final = ("ne tensor", "MHz")


@dataclass(frozen=True, slots=True)
class CardSample:
    """`sensors` are labels and values as the card has them: mA, mV, µW, m°C."""

    card: Card
    is_alive: bool
    uptime_seconds: int | None
    core_megahertz: int | None
    errors: Mapping[str, int]
    sensors: Mapping[Kind, tuple[tuple[str, int], ...]]
    cores: Mapping[int, CoreUse] = field(default_factory=dict)  # empty: not looked at


def sample(seen: Seen, cores: Mapping[int, CoreUse]) -> CardSample:
    files = seen.texts.get(CardPart.CARD, _NOTHING).files
    sensors = seen.texts.get(CardPart.SENSORS, _NOTHING).files
    clocks = values.clocks(files.get("ne_clk_freq_info", ""))
    return CardSample(
        seen.card,
        is_alive=seen.is_healthy and _says_alive(seen),
        uptime_seconds=_read(values.heartbeat, files.get("heartbeat")),
        core_megahertz=next(
            (clock.value for clock in clocks if (clock.name, clock.unit) == _CORE_CLOCK), None
        ),
        errors=values.errors(files.get("atr_error", "")),
        sensors={kind: _sensors(sensors, kind) for kind in Kind},
        cores=cores,
    )


def _says_alive(seen: Seen) -> bool:
    """When it was not asked, nothing is known against it."""
    card = seen.texts.get(CardPart.CARD)
    return card is None or bool(_read(values.alive, card.files.get("alive")))


def _read(parse: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return None if text is None else parse(text)
    except DeviceFault:
        return None


def _sensors(files: Mapping[str, str], kind: Kind) -> tuple[tuple[str, int], ...]:
    try:
        return values.sensors(files, kind)
    except DeviceFault:
        return ()
