"""The histogram of a stream is the histogram of all its values."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from furiosa.quantizer.histogram import BINS, Distribution, Extremes, Histogram

Floats = npt.NDArray[np.float32]

ANY_FLOATS = hnp.arrays(
    np.float32,
    st.integers(1, 30),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def histogram(*parts: Floats) -> Distribution:
    observed = Histogram()
    for part in parts:
        observed.add(part)
    return observed.distribution()


def assert_equal(left: Distribution, right: Distribution) -> None:
    for field in ("minimum", "maximum", "zeros", "start", "width"):
        assert getattr(left, field) == getattr(right, field)
    np.testing.assert_array_equal(left.counts, right.counts)


@settings(max_examples=200)
@given(st.lists(ANY_FLOATS, min_size=1, max_size=6))
def test_order_and_portions_do_not_matter(parts: list[Floats]) -> None:
    once = histogram(np.concatenate(parts))
    assert_equal(histogram(*parts), once)
    assert_equal(histogram(*parts[::-1]), once)


@settings(max_examples=200)
@given(ANY_FLOATS)
def test_bins_count_what_lies_in_them(values: Floats) -> None:
    found = histogram(values)
    others = values[values != 0].astype(np.float64)
    expected, _ = np.histogram(
        np.floor(others / found.width) - found.start, len(found.counts), (0, len(found.counts))
    )
    np.testing.assert_array_equal(found.counts, expected)
    assert found.zeros == len(values) - len(others)
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert 1 <= len(found.counts) <= BINS


def test_bins_are_as_fine_as_their_number_allows() -> None:
    found = histogram(np.linspace(-3, 5, 1000, dtype=np.float32))
    assert found.width == 8 / BINS * 2  # 8 / BINS would need one bin more
    assert len(found.counts) > BINS / 2


def test_magnitudes_are_the_histogram_of_absolute_values() -> None:
    values = np.random.default_rng(0).normal(1, 2, 10_000).astype(np.float32)
    values[:100] = 0
    found = histogram(values).magnitudes()
    expected, _ = np.histogram(np.abs(values[100:]), found.edges)
    # a negative value on an edge lies in the bin on the other side of it
    assert np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max() <= 1
    assert found.counts.sum() == 9_900
    assert (found.minimum, found.maximum, found.zeros) == (0, np.abs(values).max(), 100)


@pytest.mark.parametrize(("low", "high"), [(2, 5), (-5, -2)])
def test_magnitudes_of_values_far_from_zero(low: float, high: float) -> None:
    found = histogram(np.linspace(low, high, 50, dtype=np.float32)).magnitudes()
    assert (found.minimum, found.maximum, found.counts.sum()) == (2, 5, 50)
    assert found.start * found.width <= 2


def test_coarser_bins_hold_the_same_values() -> None:
    values = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    found = histogram(values).coarsened(100)
    assert 50 < len(found.counts) <= 100
    expected, _ = np.histogram(values, found.edges)
    np.testing.assert_array_equal(found.counts, expected)


@pytest.mark.parametrize("observer", [Extremes, Histogram])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_not_counted(
    observer: type[Extremes], value: float
) -> None:
    observed = observer()
    observed.add(np.array([1, 2], np.float32))
    with pytest.raises(ValueError, match="not finite"):
        observed.add(np.array([9, value], np.float32))
    assert (observed.minimum, observed.maximum) == (1, 2)
    assert observed.distribution().counts.sum() == (2 if observer is Histogram else 0)


def test_no_values_change_nothing() -> None:
    observed = Histogram()
    observed.add(np.zeros(0, np.float32))
    observed.add(np.ones(1, np.float32))
    assert (observed.minimum, observed.maximum) == (1, 1)
