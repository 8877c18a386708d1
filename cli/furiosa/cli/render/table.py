"""The ASCII box of info, list and ps. Source: furiosactl reference 3.

Here, as in all that `furiosa.cli.quick` imports, nothing is imported but what is built in: `typing` and
`dataclasses` take longer than a short command.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"


class Align:
    LEFT: Final = "left"
    RIGHT: Final = "right"


class Column:
    __slots__ = ("align", "title")

    def __init__(self, title: str, align: str = Align.LEFT) -> None:
        self.title = title
        self.align = align


class Table:
    """Each row has one cell for each column."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: tuple[Column, ...], rows: tuple[tuple[str, ...], ...]) -> None:
        self.columns = columns
        self.rows = rows


def draw(table: Table, *, bold: bool = False) -> str:
    """The box with a border under every row; `bold` writes the titles with terminal codes."""
    titles = [column.title for column in table.columns]
    rows = [[printable(cell) for cell in row] for row in table.rows]
    widths = [max(map(_width, cells)) for cells in zip(titles, *rows, strict=True)]
    return "".join(f"{line}\n" for line in _lines(table.columns, titles, rows, widths, bold))


def _lines(
    columns: Sequence[Column],
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    bold: bool,
) -> Iterator[str]:
    border = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    for number, row in enumerate((titles, *rows)):
        on, off = (_BOLD, _PLAIN) if bold and number == 0 else ("", "")
        cells = []
        for column, cell, width in zip(columns, row, widths, strict=True):
            blanks = " " * (width - _width(cell))
            text = f"{on}{cell}{off}"
            cells.append(blanks + text if column.align == Align.RIGHT else text + blanks)
        yield border
        yield f"| {' | '.join(cells)} |"
    yield border


def printable(text: str) -> str:
    """A command line may hold anything; an escape code in it must not reach the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide letters take two, marks on another letter none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
