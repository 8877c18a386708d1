import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.platform.thermal import (
    FULL_CELSIUS,
    FULL_WATTS,
    IDLE_CELSIUS,
    IDLE_WATTS,
    Climate,
    step,
)

LOADS = st.floats(0, 1)
SECONDS = st.floats(0, 1e6)


def test_an_idle_card_stays_as_it_is() -> None:
    assert step(Climate(), 0.0, 3600) == Climate(IDLE_CELSIUS, IDLE_WATTS)


def test_a_busy_card_reaches_full_heat_and_cools_again() -> None:
    hot = step(Climate(), 1.0, 3600)
    assert hot.celsius == pytest.approx(FULL_CELSIUS)
    assert hot.watts == FULL_WATTS
    assert step(hot, 0.0, 3600).celsius == pytest.approx(IDLE_CELSIUS)


@given(st.lists(st.tuples(st.floats(-5, 5), SECONDS), max_size=20))
def test_no_load_leads_out_of_bounds(history: list[tuple[float, float]]) -> None:
    climate = Climate()
    for load, seconds in history:
        climate = step(climate, load, seconds)
        assert IDLE_CELSIUS - 1e-9 <= climate.celsius <= FULL_CELSIUS + 1e-9
        assert IDLE_WATTS <= climate.watts <= FULL_WATTS


@given(LOADS, LOADS, SECONDS)
def test_more_load_is_never_cooler(a: float, b: float, seconds: float) -> None:
    low, high = (step(Climate(), load, seconds) for load in sorted((a, b)))
    assert low.celsius <= high.celsius + 1e-9
    assert low.watts <= high.watts


@given(LOADS, st.floats(0, 300), st.floats(0, 300))
def test_the_curve_does_not_depend_on_how_often_it_is_asked(
    load: float, first: float, second: float
) -> None:
    at_once = step(Climate(), load, first + second)
    in_two = step(step(Climate(), load, first), load, second)
    assert in_two.celsius == pytest.approx(at_once.celsius)
