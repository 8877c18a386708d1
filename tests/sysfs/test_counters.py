import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.sysfs.counters import (
    BadCounters,
    CounterReading,
    Utilisation,
    utilisation,
)

R = CounterReading
MAX = 2**32 - 1
IDLE = Utilisation(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("older", "newer", "expected"),
    [
        pytest.param(R(0, 0, 0, 0), R(1000, 1000, 500, 375), (0.5, 0.75, 0.25), id="plain"),
        pytest.param(R(0, 100, 7, 7), R(1000, 1100, 7, 7), (0, 0, 0), id="nothing ran"),
        pytest.param(R(5, 100, 7, 7), R(5, 100, 7, 7), (0, 0, 0), id="the same reading twice"),
        pytest.param(R(0, 9000, 80, 80), R(1000, 800, 200, 50), (0.25, 0.25, 0.75), id="restart"),
        pytest.param(
            R(0, 0, 90, 90), R(1000, 449, 100, 50), (100 / 449, 0.5, 0.5), id="slower than 0.45"
        ),
        pytest.param(R(0, 0, 90, 90), R(1000, 450, 99, 99), (0.02, 1, 0), id="just not too slow"),
        pytest.param(R(0, 0, MAX - 9, MAX), R(100, 100, 40, 24), (0.5, 0.5, 0.5), id="wrap"),
        pytest.param(R(0, 0, 0, 0), R(100, 100, 300, 10), (1, 0.1, 0.9), id="task over cycles"),
        pytest.param(R(0, 0, 0, 0), R(100, 100, 50, 70), (0.5, 1, 0), id="tensor over task"),
        pytest.param(
            R(0, MAX, 0, 0), R(100, MAX + 100, 25, 25), (0.25, 1, 0), id="cycles past 32 bits"
        ),
    ],
)
def test_difference_rules(
    older: CounterReading, newer: CounterReading, expected: tuple[float, float, float]
) -> None:
    found = utilisation(older, newer)
    assert (found.npu, found.computation, found.io) == pytest.approx(expected)
    assert utilisation(newer, older) == found


WORD = st.integers(0, MAX)
READINGS = st.builds(R, st.integers(0, 2**62), st.integers(0, 2**64 - 1), WORD, WORD)


@given(READINGS, READINGS)
def test_whatever_the_registers_hold_fractions_are_fractions(
    a: CounterReading, b: CounterReading
) -> None:
    found = utilisation(a, b)
    assert found == utilisation(b, a)
    assert 0 <= found.npu <= 1
    assert 0 <= found.computation <= 1
    assert found == IDLE or found.computation + found.io == 1


TEXT = """ProgramCounter: 0x1f40
TaskExecutionTime: 0xA
  TensorExecutionTime: 0x9
CycleCount: 0xffffffff
CycleCountHigh: 0x1
"""


def test_the_four_counters_are_found_among_others() -> None:
    assert R.parse(TEXT, 3) == R(3, 0x1_FFFF_FFFF, 10, 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("CycleCountHigh", "CycleCountLow"),
        TEXT.replace("0xA", "10"),
        TEXT.replace("0xffffffff", "0x1ffffffff"),
    ],
)
def test_text_without_the_four_counters_is_refused(text: str) -> None:
    with pytest.raises(BadCounters, match=r"^PerformanceCounterError: Unexpected Perf.* format\.$"):
        R.parse(text, 0)
