"""Columns that fit a line."""

from hypothesis import given
from hypothesis import strategies as st

from furiosa.cli.monitor.grid import Cell, Column, Grid, Line, Meter, Spark, Text
from furiosa.cli.monitor.text import width_of
from furiosa.cli.render.table import Align

COLUMNS = (
    Column("ID"),
    Column("STATE", rank=1),
    Column("POD", rank=2),
    Column("N", Align.RIGHT),
    Column("COMMAND", share=1, least=10),
)
ROW = (Text("5f3a"), Text("granted"), Text("pod-1"), Text("7"), Text("python3 app.py --port 80"))


def drawn(line: Line) -> str:
    return "".join(text.text for text in line)


def test_the_flexible_column_takes_what_is_left() -> None:
    grid = Grid.of(COLUMNS, [ROW], 40)
    assert drawn(grid.head(0, descending=False)) == "ID▲  STATE   POD    N COMMAND           "
    assert drawn(grid.line(ROW)) == "5f3a granted pod-1  7 python3 app.py --…"


def test_columns_of_high_rank_go_first_when_it_is_narrow() -> None:
    shown = {width: drawn(Grid.of(COLUMNS, [ROW], width).line(ROW)) for width in (30, 20)}
    assert shown == {30: "5f3a granted  7 python3 app.p…", 20: "5f3a  7 python3 app…"}


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    row = (*ROW[:2], Text(""), *ROW[3:])
    grid = Grid.of(COLUMNS, [row], 40)
    assert grid.widths[2] is None
    assert drawn(grid.line(row)) == "5f3a granted  7 python3 app.py --port 80"


def test_a_long_cell_of_a_rigid_column_has_its_limit() -> None:
    columns = (Column("A", limit=6), Column("B", share=1))
    row = (Text("x" * 50), Text("y"))
    assert drawn(Grid.of(columns, [row], 12).line(row)) == "xxxxx… y    "


@given(
    st.integers(0, 250),
    st.lists(st.text(max_size=60), min_size=5, max_size=5),
    st.floats(0, 1),
)
def test_a_line_is_as_wide_as_it_was_asked_to_be(
    width: int, texts: list[str], fraction: float
) -> None:
    columns = (*COLUMNS, Column("", share=2, rank=3), Column("HISTORY", share=1))
    row: tuple[Cell, ...] = (*map(Text, texts), Meter(fraction), Spark((fraction,) * 300, 0.0, 1.0))
    grid = Grid.of(columns, [row], width)
    assert width_of(drawn(grid.line(row))) == width
    assert width_of(drawn(grid.head(1, descending=True))) == width
