"""Values as the published tables write them. Source: furiosactl reference 4 (formats)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MISSING: Final = "N/A"


def or_missing(text: str) -> str:
    return text or MISSING


def container(runtime: str, id: str) -> str:
    """The runtime, and so much of the id as its own tools show."""
    return f"{runtime} {id[:12]}"


def celsius(millicelsius: int | None) -> str:
    """Whole degrees, the unit directly after them: 54°C."""
    return MISSING if millicelsius is None else f"{round(millicelsius / 1e3)}°C"


def watts(microwatts: int | None) -> str:
    """Two decimals and a blank: 0.99 W."""
    return MISSING if microwatts is None else f"{microwatts / 1e6:.2f} W"
