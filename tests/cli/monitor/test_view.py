"""Order, filter, cursor, and which pane gets which lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.cli.monitor.grid import Text
from furiosa.cli.monitor.history import History
from furiosa.cli.monitor.rows import Row, cards, leases, waiters
from furiosa.cli.monitor.view import COLUMNS, FIRST_ORDERS, Cursor, Order, Pane, arranged, plan
from support.shown_devices import a_device
from support.shown_samples import a_card, a_sample, a_use, two_cards

ORDERS = {pane: Order(FIRST_ORDERS[pane]) for pane in Pane}


def a_row(key: str, *values: float, below: int = 0) -> Row:
    return Row(
        key,
        (Text(key),),
        values,
        key,
        key,
        a_device(),
        tuple(a_row(f"{key}.{n}") for n in range(below)),
    )


def keys(rows: list[Row]) -> str:
    return " ".join(row.key for row in rows)


def test_rows_are_sorted_by_a_column_either_way_round() -> None:
    rows = [a_row("a", 1, 5), a_row("b", 2, 4), a_row("c", 3, 5)]
    assert keys(arranged(rows, Order(1), "")) == "b a c"
    assert keys(arranged(rows, Order(1, descending=True), "")) == "a c b"


def test_the_next_order_is_by_a_column_that_is_in_sight() -> None:
    columns = COLUMNS[Pane.CARDS]
    widths: list[int | None] = [5] * len(columns)
    widths[4] = None
    seen = [Order(0)]
    while len(seen) < len(columns):
        seen.append(seen[-1].next(columns, widths))
    assert [order.column for order in seen] == [0, 1, 2, 5, 6, 7, 0, 1]  # 3 has no title


def test_a_filter_wants_each_of_its_words_somewhere() -> None:
    rows = leases(two_cards(), str)
    assert keys(arranged(rows, Order(0), "SERVE npu0")) == "bbbb"
    assert keys(arranged(rows, Order(0), "serve npu1")) == ""
    assert keys(arranged(rows, Order(0), "識別")) == "bbbb"


def test_a_filter_finds_cards_by_those_who_hold_them() -> None:
    rows = cards(two_cards(), History())
    assert keys(arranged(rows, Order(0), "app.py")) == "npu1"


def test_cards_are_sorted_with_their_cores_behind_them() -> None:
    sample = a_sample(a_card(0), a_card(1), uses=(a_use("npu1", 1.0),))
    found = {
        Pane.CARDS: cards(sample, History()),
        Pane.LEASES: leases(sample, str),
        Pane.WAITERS: waiters(sample, str),
    }
    orders = {**ORDERS, Pane.CARDS: Order(2, descending=True)}
    shown = plan(found, orders, "", 40, cores=None)[Pane.CARDS]
    assert keys(shown.rows) == "npu1 npu1pe0 npu1pe1 npu0 npu0pe0 npu0pe1"


@pytest.mark.parametrize(
    ("lines", "cores", "count"), [(40, None, 24), (20, None, 8), (20, True, 24), (40, False, 8)]
)
def test_cores_are_shown_when_they_fit_or_are_asked_for(
    lines: int, cores: bool | None, count: int
) -> None:
    rows = [a_row(f"npu{number}", number, below=2) for number in range(8)]
    found = {Pane.CARDS: rows, Pane.LEASES: [], Pane.WAITERS: []}
    assert len(plan(found, ORDERS, "", lines, cores=cores)[Pane.CARDS].rows) == count


def test_a_pane_says_how_many_a_filter_left() -> None:
    rows = [a_row("one", 1, 1), a_row("two", 2, 2)]
    found = {Pane.CARDS: rows, Pane.LEASES: rows, Pane.WAITERS: []}
    shown = plan(found, ORDERS, "two", 40, cores=None)
    assert [shown[pane].said for pane in Pane] == ["1 of 2", "1 of 2", "0"]


@given(st.integers(0, 80), st.integers(0, 16), st.integers(0, 40), st.integers(0, 40))
def test_no_more_lines_are_given_than_there_are(
    lines: int, card_count: int, lease_count: int, waiter_count: int
) -> None:
    found = {
        Pane.CARDS: [a_row(f"c{number}", number, 0, below=2) for number in range(card_count)],
        Pane.LEASES: [a_row(f"l{number}", number, 0) for number in range(lease_count)],
        Pane.WAITERS: [a_row(f"w{number}", number, 0) for number in range(waiter_count)],
    }
    shown = plan(found, ORDERS, "", lines, cores=None)
    heads = sum(2 if shown[pane].rows else 1 for pane in Pane)
    assert all(0 <= shown[pane].height <= len(shown[pane].rows) for pane in Pane)
    assert sum(shown[pane].height for pane in Pane) <= max(0, lines - heads)
    if lines >= heads + 10:
        assert all(shown[pane].height > 0 for pane in Pane if shown[pane].rows)


def test_a_cursor_stays_with_its_row() -> None:
    rows = [a_row(name) for name in "abcd"]
    cursor = Cursor().moved(rows, 2, 4)
    assert cursor.key == "c"
    assert cursor.on([a_row(name) for name in "xabcd"], 4).at == 3
    assert cursor.on([a_row(name) for name in "abd"], 4).key == "d"  # what is now in its place
    assert cursor.on([], 4) == Cursor()


@given(st.integers(1, 30), st.integers(1, 12), st.lists(st.integers(-40, 40), max_size=8))
def test_a_cursor_is_always_in_sight(count: int, height: int, moves: list[int]) -> None:
    rows = [a_row(str(number)) for number in range(count)]
    cursor = Cursor()
    for by in moves:
        cursor = cursor.moved(rows, by, height)
        assert cursor.top <= cursor.at < cursor.top + height
        assert 0 <= cursor.top <= max(0, count - height)
