"""The drawing of a benchmark: what is in it, and that a browser can show it."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.cli.render.axis import Axis
from furiosa.cli.render.latency_plot import HEIGHT, WIDTH, Bucket, Moment, Plot, html, svg
from support import browser

SVG = "{http://www.w3.org/2000/svg}"
PLOT = Plot(
    title="a <b> & c.onnx",
    subtitle="3 queries",
    buckets=(Bucket(100, 101, 60), Bucket(150, 151, 30), Bucket(9000, 9010, 10)),
    stats={"min": 100, "50th percentile": 101, "99th percentile": 8990, "99.9th percentile": 9005},
    course=(
        Moment(0, 0.5, 60, 100, 101, 150),
        Moment(0.5, 1, 0, 0, 0, 0),
        Moment(1, 1.25, 40, 150, 9000, 9005),
    ),
)
LIMITS = st.floats(1e-3, 1e9)


def elements(plot: Plot, style: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg(plot).encode())
    return [element for element in root.iter() if style in element.get("class", "").split()]


def test_each_latency_is_in_a_bar() -> None:
    hints = [bar.findtext(f"{SVG}title", "") for bar in elements(PLOT, "bar")]
    assert [hint.rpartition(": ")[2] for hint in hints] == ["60 %", "30 %", "10 %"]


def test_percentiles_stand_where_their_values_are() -> None:
    labels = [mark.text for mark in elements(PLOT, "marked")]
    assert labels == ["p50 101 µs", "p99 8.99 ms", "p99.9 9.01 ms"]
    first, second, third = (float(mark.get("x1", "")) for mark in elements(PLOT, "mark"))
    assert first < second <= third
    rows = [float(mark.get("y", "")) for mark in elements(PLOT, "marked")]
    assert len(set(rows)) == 3  # none is above another


def test_the_course_has_no_latency_where_nothing_ended() -> None:
    for style in ("p50", "p99", "max"):
        (line,) = (item for item in elements(PLOT, style) if item.tag == f"{SVG}polyline")
        assert len(line.get("points", "").split()) == 2
    hints = [slot.findtext(f"{SVG}title", "") for slot in elements(PLOT, "slot")]
    assert hints == [
        "0 to 0.5 s: 60 queries, p50 100 µs, p99 101 µs, max 150 µs",
        "1 to 1.25 s: 40 queries, p50 150 µs, p99 9 ms, max 9.01 ms",
    ]


def test_one_query_can_be_drawn() -> None:
    one = replace(
        PLOT,
        buckets=(Bucket(7448, 7456, 1),),
        stats={"50th percentile": 7448},
        course=(Moment(0, 0.008, 1, 7448, 7448, 7448),),
    )
    assert len(elements(one, "bar")) == 1
    assert "nan" not in svg(one)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 65, 0, 1), [0, 20, 40, 60]),
        (Axis(0, 6.5, 0, 1), [0, 2, 4, 6]),
        (Axis(130, 5000, 0, 1, is_log=True), [200, 500, 1000, 2000, 5000]),
        (Axis(1, 1e6, 0, 1, is_log=True), [1, 100, 1e4, 1e6]),
        (Axis(300, 330, 0, 1, is_log=True), [300, 310, 320, 330]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert list(axis.ticks(5)) == pytest.approx(ticks)


@given(LIMITS, LIMITS, st.integers(2, 12), st.booleans())
def test_ticks_are_few_and_on_the_axis(one: float, other: float, most: int, is_log: bool) -> None:
    low, high = min(one, other), max(one, other)
    high = max(high, low * 1.1)
    ticks = Axis(low, high, 0, 100, is_log).ticks(most)
    assert len(ticks) <= most + 1
    assert all(low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9) for tick in ticks)
    assert math.isclose(Axis(low, high, 0, 100, is_log).at(high), 100)


@pytest.mark.skipif(browser.executable() is None, reason="no Chromium on this machine")
def test_a_browser_shows_both_forms_within_their_frame(tmp_path: Path) -> None:
    files = {"plot.svg": svg(PLOT), "plot.html": html(PLOT)}
    with browser.browsing(tmp_path / "profile") as page:
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
            for dark in (False, True):
                page.open((tmp_path / name).as_uri(), dark=dark)
                assert page.complaints == []
                assert page.requests == [(tmp_path / name).as_uri()]
                texts = "[...document.querySelectorAll('text')]"
                assert page.value(f"{texts}.map(text => text.textContent)")[0] == PLOT.title
                boxes = page.value(
                    f"{texts}.map(text => text.getBBox())"
                    ".map(box => [box.x, box.y, box.x + box.width, box.y + box.height])"
                )
                assert all(
                    left >= 0 and top >= 0 and right <= WIDTH and bottom <= HEIGHT
                    for left, top, right, bottom in boxes
                )
