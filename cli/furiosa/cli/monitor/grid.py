"""Rows of cells to lines of a given width."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from furiosa.cli.monitor.text import fit, meter, sparkline, width_of
from furiosa.cli.render.table import Align, printable

_GAP: Final = 1


class Tone(Enum):
    """What a colour means; words and bars say the same without one."""

    PLAIN = "plain"
    DIM = "dim"
    TITLE = "title"
    GOOD = "good"
    WARM = "warm"
    BAD = "bad"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Column:
    """`share` > 0 is flexible: what the others leave is divided by shares. `rank`: 0 is always shown; of
    the others the highest goes first when a line is too short.
    """

    title: str
    align: str = Align.LEFT
    share: int = 0
    rank: int = 0
    limit: int = 40  # columns of the terminal at most, when it is not flexible
    least: int = 14  # that it wants, when it is flexible


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Meter:
    fraction: float
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Spark:
    values: tuple[float | None, ...]
    low: float
    high: float
    tone: Tone = Tone.PLAIN


Cell = Text | Meter | Spark
Line = tuple[Text, ...]  # its texts together are exactly as wide as asked for


@dataclass(frozen=True, slots=True)
class Grid:
    """Of a line: which columns are shown, and how wide."""

    columns: tuple[Column, ...]
    widths: tuple[int | None, ...]  # None: left out
    total: int

    @classmethod
    def of(cls, columns: tuple[Column, ...], rows: Sequence[Sequence[Cell]], total: int) -> "Grid":
        """The widths that show `rows` best in `total` columns of a terminal."""
        wanted = [
            0 if column.share else min(column.limit, _wanted(column, number, rows))
            for number, column in enumerate(columns)
        ]
        shown = {number for number in range(len(columns)) if not _is_empty(number, rows)}
        by_rank = sorted(shown, key=lambda number: -columns[number].rank)
        for number in by_rank:
            if columns[number].rank == 0 or _least(columns, wanted, shown) <= total:
                break
            shown.remove(number)
        left = total - sum(wanted[number] for number in shown) - _GAP * (len(shown) - 1)
        shares = sum(columns[number].share for number in shown)
        widths: list[int | None] = []
        for number, column in enumerate(columns):
            if number not in shown:
                widths.append(None)
            elif column.share:
                width = max(0, left * column.share // shares)
                left, shares = left - width, shares - column.share
                widths.append(width)
            else:
                widths.append(wanted[number])
        return cls(columns, tuple(widths), total)

    def head(self, sorted_by: int, *, descending: bool) -> Line:
        """Titles; an arrow behind the one that the rows are sorted by."""
        titles = [
            column.title + ("▼" if descending else "▲") * (number == sorted_by)
            for number, column in enumerate(self.columns)
        ]
        return self.line([Text(title, Tone.TITLE) for title in titles])

    def line(self, cells: Sequence[Cell]) -> Line:
        texts: list[Text] = []
        for column, width, cell in zip(self.columns, self.widths, cells, strict=True):
            if width is not None:
                if texts:
                    texts.append(Text(" " * _GAP))
                texts.append(Text(_drawn(cell, width, column.align), cell.tone))
        return closed(texts, self.total)


def _wanted(column: Column, number: int, rows: Sequence[Sequence[Cell]]) -> int:
    cells = (row[number] for row in rows)
    widths = (width_of(printable(cell.text)) for cell in cells if isinstance(cell, Text))
    return max(width_of(column.title) + 1, *widths, 0)  # room for the arrow


def _is_empty(number: int, rows: Sequence[Sequence[Cell]]) -> bool:
    return all(row[number] == Text("") for row in rows)


def _least(columns: Sequence[Column], wanted: Sequence[int], shown: set[int]) -> int:
    widths = (
        columns[number].least if columns[number].share else wanted[number] for number in shown
    )
    return sum(widths) + _GAP * (len(shown) - 1)


def _drawn(cell: Cell, width: int, align: str) -> str:
    match cell:
        case Text():
            return fit(printable(cell.text), width, align)
        case Meter():
            return meter(cell.fraction, width)
        case Spark():
            return sparkline(cell.values, width, cell.low, cell.high)


def closed(texts: list[Text], total: int) -> Line:
    """Cut or padded to `total` columns: rigid ones alone may be wider than a narrow terminal."""
    closed: list[Text] = []
    left = total
    for text in texts:
        if left <= 0:
            break
        if width_of(text.text) > left:
            text = Text(fit(text.text, left), text.tone)
        closed.append(text)
        left -= width_of(text.text)
    if left > 0:
        closed.append(Text(" " * left))
    return tuple(closed)
