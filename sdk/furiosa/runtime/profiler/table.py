"""Tables of box characters. PURE. Source: runtime reference 10.2."""

from collections.abc import Iterator, Sequence

NARROWEST = 8  # characters of a column that is made narrower for a terminal


def table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """Lines of a table, left-aligned; cells wrap where it must be no wider than `columns` characters."""
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
    if columns is not None:
        while _total(widths) > columns and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
    return "\n".join(
        (
            _rule("┌", "─", "┬", "┐", widths),
            *_row(header, widths),
            _rule("╞", "═", "╪", "╡", widths),
            *(line for row in rows for line in _row(row, widths)),
            _rule("└", "─", "┴", "┘", widths),
        )
    )


def _total(widths: Sequence[int]) -> int:
    return sum(width + 3 for width in widths) + 1


def _rule(left: str, line: str, inner: str, right: str, widths: Sequence[int]) -> str:
    return left + inner.join(line * (width + 2) for width in widths) + right


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    pieces = [
        [cell[at : at + width] for at in range(0, max(len(cell), 1), width)]
        for cell, width in zip(cells, widths, strict=True)
    ]
    for line in range(max(map(len, pieces))):
        texts = (
            (parts[line] if line < len(parts) else "").ljust(width)
            for parts, width in zip(pieces, widths, strict=True)
        )
        yield "│ " + " ┆ ".join(texts) + " │"
