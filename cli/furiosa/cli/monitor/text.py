"""Text in columns of a terminal: cut and padded by width, bars and sparklines."""

import math
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

from furiosa.cli.render.table import Align

_TICKS: Final = "▁▂▃▄▅▆▇█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_MORE: Final = "…"


def width_of(text: str) -> int:
    return cell_len(text)


def fit(text: str, width: int, align: str = Align.LEFT) -> str:
    """Exactly `width` columns; what was cut shows as `…`. A wide letter is never cut in two."""
    if width <= 0:
        return ""
    if (size := cell_len(text)) > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + _MORE, width)
    blanks = " " * (width - size)
    return blanks + text if align is Align.RIGHT else text + blanks


def meter(fraction: float, width: int) -> str:
    """A bar of `width` columns, to an eighth of one. More than nothing is shown."""
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    if fraction > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return bar.ljust(width)


def sparkline(values: Sequence[float | None], width: int, low: float, high: float) -> str:
    """The last `width` values, the newest at the right; `low` is the lowest tick, `high` the highest."""
    shown = values[-width:] if width > 0 else ()
    return "".join(_tick(value, low, high) for value in shown).rjust(max(0, width))


def _tick(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    """Only `low` and less have the lowest tick: a little is not nothing."""
    last = len(_TICKS) - 1
    return _TICKS[min(last, max(0, math.ceil((value - low) / (high - low) * last)))]
