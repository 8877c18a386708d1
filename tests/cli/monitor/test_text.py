"""Cutting, bars and sparklines, in columns of a terminal."""

import pytest

from furiosa.cli.monitor.text import fit, meter, sparkline, width_of
from furiosa.cli.render.table import Align


@pytest.mark.parametrize(
    ("text", "width", "fitted"),
    [
        ("npu0", 6, "npu0  "),
        ("npu0", 4, "npu0"),
        ("npu0pe0", 5, "npu0…"),
        ("識別モデル", 10, "識別モデル"),
        ("識別モデル", 9, "識別モデ…"),
        ("識別モデル", 8, "識別モ… "),  # half a letter is no letter
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("ein wort", 5, "ein… "),
    ],
)
def test_text_is_cut_and_padded_to_its_columns(text: str, width: int, fitted: str) -> None:
    assert fit(text, width) == fitted
    assert width_of(fitted) == width


def test_numbers_stand_at_the_right() -> None:
    assert fit("7%", 4, Align.RIGHT) == "  7%"


@pytest.mark.parametrize(
    ("fraction", "bar"),
    [(0, "    "), (0.5, "██  "), (1, "████"), (1.7, "████"), (0.001, "▏   "), (0.53125, "██▏ ")],
)
def test_a_bar_is_drawn_to_an_eighth_of_a_column(fraction: float, bar: str) -> None:
    assert meter(fraction, 4) == bar


def test_a_sparkline_has_its_newest_value_at_the_right() -> None:
    assert sparkline([0.0, 0.5, 1.0], 5, 0.0, 1.0) == "  ▁▅█"
    assert sparkline([1.0, 0.0, 0.5, 1.0], 2, 0.0, 1.0) == "▅█"


def test_a_little_is_not_nothing() -> None:
    assert sparkline([0.0, 0.001], 2, 0.0, 1.0) == "▁▂"


def test_what_is_out_of_scale_or_unknown_has_its_column() -> None:
    assert sparkline([5.0, None, 120.0], 3, 20.0, 100.0) == "▁ █"
    assert sparkline([1.0], 0, 0.0, 1.0) == ""
