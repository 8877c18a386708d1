"""How somebody looks at a sample: which rows in which order, and where the cursor is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from furiosa.cli.monitor.grid import Column
from furiosa.cli.monitor.rows import CARDS, LEASES, WAITERS, Row


class Pane(Enum):
    CARDS = "Cards"
    LEASES = "Leases"
    WAITERS = "Waiters"


FIRST_ORDERS: Final = {Pane.CARDS: 0, Pane.LEASES: 1, Pane.WAITERS: 0}  # columns
COLUMNS: Final = {Pane.CARDS: CARDS, Pane.LEASES: LEASES, Pane.WAITERS: WAITERS}


@dataclass(frozen=True, slots=True)
class Order:
    """Rows are sorted by the values of a column; equal ones keep the broker's order."""

    column: int
    descending: bool = False

    def next(self, columns: Sequence[Column], shown: Sequence[int | None]) -> "Order":
        """By the next column that is shown and has a title."""
        count = len(columns)
        for step in range(1, count + 1):
            number = (self.column + step) % count
            if columns[number].title and shown[number] is not None:
                return replace(self, column=number)
        return self


def arranged(rows: Sequence[Row], order: Order, words: str) -> list[Row]:
    """The rows that have each of `words` somewhere, sorted."""
    wanted = words.casefold().split()
    kept = [row for row in rows if all(word in row.words.casefold() for word in wanted)]
    return sorted(kept, key=lambda row: row.values[order.column], reverse=order.descending)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A row, by its key, so that it stays with what it marks while rows come and go around it.

    `at` is where it was last; `top` the first row in sight.
    """

    key: str = ""
    at: int = 0
    top: int = 0

    def on(self, rows: Sequence[Row], height: int) -> "Cursor":
        """In sight, on the row of its key, else on the one that is now where that was."""
        at = next((number for number, row in enumerate(rows) if row.key == self.key), self.at)
        return self._at(rows, at, height)

    def moved(self, rows: Sequence[Row], by: int, height: int) -> "Cursor":
        return self._at(rows, self.on(rows, height).at + by, height)

    def _at(self, rows: Sequence[Row], at: int, height: int) -> "Cursor":
        if not rows:
            return Cursor()
        at = min(max(0, at), len(rows) - 1)
        height = max(1, height)
        top = min(max(self.top, at - height + 1), at)
        top = max(0, min(top, len(rows) - height))
        return Cursor(rows[at].key, at, top)


@dataclass(frozen=True, slots=True)
class Shown:
    """Of a pane: its rows, how many lines they have, and what stands behind its name."""

    rows: list[Row]
    height: int
    said: str


def plan(
    found: Mapping[Pane, Sequence[Row]],
    orders: Mapping[Pane, Order],
    words: str,
    lines: int,
    *,
    cores: bool | None,
) -> dict[Pane, Shown]:
    """What the panes show in `lines` lines, with their titles. `cores` of the cards; None: when they fit.

    Cards may have three fifths of the lines, or what the others leave; waiters a third of the rest, or what
    leases leave.
    """
    kept = {pane: arranged(found[pane], orders[pane], words) for pane in Pane}
    lines -= len(Pane) + sum(1 for rows in kept.values() if rows)  # titles and heads
    leases, waiters = len(kept[Pane.LEASES]), len(kept[Pane.WAITERS])
    room = max(lines * 3 // 5, lines - leases - waiters)
    said = {pane: _count(len(found[pane]), len(kept[pane])) for pane in Pane}
    whole = [shown for row in kept[Pane.CARDS] for shown in (row, *row.below)]
    if (len(whole) <= room) if cores is None else cores:
        kept[Pane.CARDS] = whole
    for_cards = min(len(kept[Pane.CARDS]), room)
    left = max(0, lines - for_cards)
    for_waiters = min(waiters, max(left // 3, left - leases))
    heights = {
        Pane.CARDS: for_cards,
        Pane.LEASES: min(leases, left - for_waiters),
        Pane.WAITERS: for_waiters,
    }
    return {pane: Shown(kept[pane], max(0, heights[pane]), said[pane]) for pane in Pane}


def _count(found: int, kept: int) -> str:
    return str(found) if found == kept else f"{kept} of {found}"
