"""Ranges against brute force over the values themselves."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from furiosa.quantizer import CalibrationMethod as Method
from furiosa.quantizer.divergence import Divergence
from furiosa.quantizer.histogram import Distribution, Extremes, Histogram
from furiosa.quantizer.qparams import Doubles, activation_parameters
from furiosa.quantizer.ranges import range_of
from furiosa.quantizer.search import least_cost
from furiosa.quantizer.squared_error import SquaredError

Floats = npt.NDArray[np.float32]


def _normal(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.normal(0.3, 1, 20_000)


def _heavy(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A thousandth of the values is sixty times as wide."""
    wide = rng.random(20_000) < 1e-3
    return rng.normal(0, 1, 20_000) * np.where(wide, 60, 1)


def _outlier(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.append(rng.normal(0, 1, 20_000), 100)


def _after_relu(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.maximum(_heavy(rng), 0)


def _lopsided(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.concatenate([-rng.exponential(0.2, 10_000), rng.exponential(2, 10_000)])


def _student(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.standard_t(2, 20_000)


def _lognormal(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Both signs; the positive values are the wider ones."""
    return np.where(rng.random(20_000) < 0.3, -0.4, 1) * rng.lognormal(0, 1.5, 20_000)


SHAPES: dict[str, Callable[[np.random.Generator], npt.NDArray[np.float64]]] = {
    "normal": _normal,
    "heavy": _heavy,
    "outlier": _outlier,
    "after relu": _after_relu,
    "lopsided": _lopsided,
    "student": _student,
    "lognormal": _lognormal,
}


def sample(name: str) -> Floats:
    return SHAPES[name](np.random.default_rng(7)).astype(np.float32)


def histogram(values: Floats) -> Distribution:
    observed = Histogram()
    observed.add(values)
    return observed.distribution()


def squared_error(values: Floats, low: float, high: float) -> float:
    """Quantise and dequantise every value."""
    scale, zero_point = activation_parameters(low, high)
    stored = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float(np.mean(((stored - zero_point) * scale.astype(float) - values) ** 2))


def noise_to_signal(values: Floats, low: float, high: float) -> float:
    """Power of the error in shares of the quantised values' power."""
    scale, zero_point = activation_parameters(low, high)
    stored = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    real = (stored - zero_point) * scale.astype(float)
    return float(np.mean((real - values) ** 2) / np.mean(real**2))


def symmetric_range(values: Floats, high: float) -> tuple[float, float]:
    return (0.0 if values.min() >= 0 else -high), high


def test_numbers_and_names_are_those_of_the_reference() -> None:
    names = ["MIN_MAX", "ENTROPY", "PERCENTILE", "MSE", "SQNR"]
    expected = {
        f"{n}_{kind}": 2 * i + j
        for i, n in enumerate(names)
        for j, kind in enumerate(["ASYM", "SYM"])
    }
    assert {method.name: int(method) for method in Method} == expected


# every method


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("name", SHAPES)
def test_ranges_lie_within_the_values(method: Method, name: str) -> None:
    values = sample(name)
    low, high = range_of(histogram(values), method)
    if method % 2:
        assert (low, high) == symmetric_range(values, high)
        assert 0 < high <= np.abs(values).max()
    else:
        assert min(values.min(), 0) <= low <= 0.5
        assert 0 < high <= max(values.max(), 0)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30, 3e38])
def test_a_single_value_is_its_own_range(method: Method, value: float) -> None:
    low, high = range_of(histogram(np.full(5, value, np.float32)), method)
    assert max(abs(low), abs(high)) == pytest.approx(abs(np.float32(value)))
    assert low in (0, pytest.approx(value), pytest.approx(-abs(value)))


@pytest.mark.parametrize("method", Method)
def test_few_values_are_not_clipped_much(method: Method) -> None:
    values = np.random.default_rng(3).normal(0, 1, 200).astype(np.float32)
    low, high = range_of(histogram(values), method)
    assert low < 0.85 * values.min()
    assert high > 0.85 * values.max()


# min-max


@pytest.mark.parametrize("name", SHAPES)
def test_min_max_is_the_extremes_and_needs_no_histogram(name: str) -> None:
    values = sample(name)
    observed = Extremes()
    observed.add(values)
    assert not Method.MIN_MAX_ASYM.needs_histogram
    assert range_of(observed.distribution(), Method.MIN_MAX_ASYM) == (values.min(), values.max())
    assert range_of(observed.distribution(), Method.MIN_MAX_SYM) == symmetric_range(
        values, float(np.abs(values).max())
    )


# percentile


@pytest.mark.parametrize("percentage", [100, 99.99, 99, 60])
@pytest.mark.parametrize("name", SHAPES)
def test_percentile_keeps_the_share(name: str, percentage: float) -> None:
    values = sample(name)
    found = histogram(values)
    low, high = range_of(found, Method.PERCENTILE_ASYM, percentage)
    outside = (1 - percentage / 100) / 2
    assert_share_below(values, low, outside, found.width)
    assert_share_below(values, high, 1 - outside, found.width)
    _, high = range_of(found, Method.PERCENTILE_SYM, percentage)
    assert_share_below(np.abs(values), high, percentage / 100, found.width)


def assert_share_below(values: Floats, end: float, share: float, width: float) -> None:
    """The end is within a bin of a value that has the share of all values below it."""
    fewest, most = np.sum(values < end - width), np.sum(values <= end + width)
    assert fewest - 1 <= share * len(values) <= most + 1


# mean squared error, signal-to-quantisation-noise ratio


@pytest.mark.parametrize("name", SHAPES)
def test_the_error_is_that_of_quantising_every_value(name: str) -> None:
    values = sample(name)
    ends = np.array([(-1.0, 1.0), (-3.0, 4.0), (0.0, 2.0), (-0.1, 30.0), (-60.0, 60.0)])
    error = SquaredError(histogram(values))
    for found, criterion in ((error.mean, squared_error), (error.noise_to_signal, noise_to_signal)):
        expected = [criterion(values, low, high) for low, high in ends]
        np.testing.assert_allclose(found(ends[:, 0], ends[:, 1]), expected, rtol=0.02)


def test_a_range_that_leaves_nothing_of_the_signal_is_the_worst() -> None:
    error = SquaredError(histogram(np.full(10, 0.1, np.float32)))
    assert error.noise_to_signal(np.zeros(1), np.full(1, 1000.0)) == np.inf


def test_values_that_are_all_zero_have_no_noise() -> None:
    error = SquaredError(histogram(np.zeros(10, np.float32)))
    assert error.noise_to_signal(np.zeros(1), np.ones(1)) == 0


CRITERIA = {"MSE": squared_error, "SQNR": noise_to_signal}


@pytest.mark.parametrize("kind", CRITERIA)
@pytest.mark.parametrize("name", SHAPES)
def test_a_symmetric_range_is_the_best_by_its_criterion(name: str, kind: str) -> None:
    values, criterion = sample(name), CRITERIA[kind]
    tried = np.abs(values).max() * np.linspace(0.01, 1, 200)
    least = min(criterion(values, *symmetric_range(values, high)) for high in tried)
    found = range_of(histogram(values), Method[f"{kind}_SYM"])
    assert criterion(values, *found) <= 1.01 * least


@pytest.mark.parametrize("kind", CRITERIA)
@pytest.mark.parametrize("name", SHAPES)
def test_an_asymmetric_range_is_the_best_by_its_criterion(name: str, kind: str) -> None:
    values, criterion = sample(name), CRITERIA[kind]
    least = min(
        criterion(values, low, high)
        for low in min(values.min(), 0) * np.linspace(0.05, 1, 20)
        for high in values.max() * np.linspace(0.05, 1, 20)
    )
    assert criterion(values, *range_of(histogram(values), Method[f"{kind}_ASYM"])) <= 1.01 * least


@pytest.mark.parametrize("name", ["student", "heavy", "outlier"])
@pytest.mark.parametrize("kind", ["ASYM", "SYM"])
def test_error_and_noise_ratio_ask_for_different_ranges(name: str, kind: str) -> None:
    values = sample(name)
    by_error = range_of(histogram(values), Method[f"MSE_{kind}"])
    by_noise = range_of(histogram(values), Method[f"SQNR_{kind}"])
    assert by_noise[1] > 1.004 * by_error[1]
    assert squared_error(values, *by_error) < squared_error(values, *by_noise)
    assert noise_to_signal(values, *by_noise) < noise_to_signal(values, *by_error)


# the search


def test_ranges_that_are_impossible_tie_with_none() -> None:
    def cost(lows: Doubles, highs: Doubles) -> Doubles:
        return np.where(highs < 0.5, np.inf, highs)

    low, high = least_cost(cost, 0.0, 1.0, lambda candidates: candidates)
    assert low == 0
    assert high == pytest.approx(0.5, abs=1e-3)


# entropy


def divergence(values: Distribution, low: float, high: float) -> float:
    """By the definition, a bin and a cell at a time; `values` are coarse enough as they are."""
    width, counts = values.width, values.counts.astype(float)
    total = counts.sum()
    left = [(values.start + i) * width for i in range(len(counts))]
    inside = [i for i, c in enumerate(counts) if c and low <= left[i] and left[i] + width <= high]
    below = sum(c for i, c in enumerate(counts) if left[i] + width <= low)
    above = sum(c for i, c in enumerate(counts) if left[i] >= high)
    reference = {i: counts[i] for i in inside}
    reference[inside[0]] += below
    reference[inside[-1]] += above
    scale, zero_point = (float(p) for p in activation_parameters(low, high))
    ends = [low, *((k + 0.5 - zero_point) * scale for k in range(-128, 127)), high]
    ends = [min(max(end, low), high) for end in ends]
    quantized = dict.fromkeys(inside, 0.0)
    noise = 0.0
    for start, stop in itertools.pairwise(ends):
        first, last = (math.floor(end / width) - values.start for end in (start, stop))
        parts = {
            i: (min(left[i] + width, stop) - max(left[i], start)) / width
            for i in range(max(first, 0), min(last + 1, len(counts)))
            if i in quantized
        }
        mass = sum(counts[i] * part for i, part in parts.items())
        room = sum(parts.values())
        noise += max(room - 1, 0) / 2
        for i, part in parts.items():
            quantized[i] += mass * part / room if room else 0
    loss = sum(p * math.log(p / quantized[i]) for i, p in reference.items())
    return float((loss - (below + above) - noise) / total)


def coarse(values: Floats) -> Distribution:
    return histogram(values).coarsened(len(values) // 4)


@pytest.mark.parametrize("name", SHAPES)
def test_the_divergence_is_that_of_the_definition(name: str) -> None:
    values = sample(name)
    bins = histogram(values)
    bins = bins.coarsened(int(bins.counts.sum()) // 4)
    edges = bins.edges
    ends = [(0.0, edges[-1]), (0.0, edges[len(edges) // 2] if edges[0] >= 0 else 2.0)]
    if edges[0] < 0:
        ends += [(edges[0], edges[-1]), (edges[3], edges[-7]), (-2.0, 2.0)]
    lows, highs = np.array(ends).T
    found = Divergence(histogram(values))(lows, highs)
    np.testing.assert_allclose(found, [divergence(bins, *e) for e in ends], atol=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_symmetric_entropy_finds_the_least_divergence(name: str) -> None:
    values = sample(name)
    cost = Divergence(histogram(values))
    highs = cost.snap(np.linspace(0.02, 1, 400) * float(np.abs(values).max()))
    lows = np.zeros_like(highs) if values.min() >= 0 else -highs
    costs = cost(lows, highs)
    _, high = range_of(histogram(values), Method.ENTROPY_SYM)
    (high,) = cost.snap(np.array([high]))
    low = 0.0 if values.min() >= 0 else -high
    (found,) = cost(np.array([low]), np.array([high]))
    assert found <= 1.1 * max(costs.min(), 1e-4)


SPIKES = {"at the greatest value": 6.0, "inside": 0.7, "below the bulk": -2.5}


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("place", SPIKES)
def test_one_frequent_value_changes_nothing_for_entropy(place: str, share: float) -> None:
    bulk = np.random.default_rng(4).normal(0, 1, 20_000).astype(np.float32)
    bulk = np.clip(bulk, -6, 6)
    count = int(len(bulk) * share / (1 - share))
    spiked = np.append(bulk, np.full(count, SPIKES[place], np.float32))
    for method in (Method.ENTROPY_ASYM, Method.ENTROPY_SYM):
        low, high = range_of(histogram(spiked), method)
        without = range_of(histogram(np.append(bulk, np.float32(SPIKES[place]))), method)
        assert low <= min(SPIKES[place], 0)
        assert high >= SPIKES[place]
        assert low <= 0.85 * without[0]
        assert high >= 0.85 * min(without[1], np.abs(bulk).max())


def test_a_spike_that_jitters_is_one_too() -> None:
    rng = np.random.default_rng(4)
    bulk = rng.normal(0, 1, 20_000)
    spike = 1.0 + rng.normal(0, 1e-6, 20_000)  # 1 is an edge between two bins
    low, high = range_of(histogram(np.append(bulk, spike).astype(np.float32)), Method.ENTROPY_ASYM)
    assert low < 0.75 * bulk.min()
    assert high > 0.75 * bulk.max()


def test_a_range_that_clips_a_spike_costs_dearly() -> None:
    values = np.append(sample("normal"), np.full(5_000, 4.0, np.float32))
    cost = Divergence(histogram(values))
    clips, keeps = cost(-cost.snap(np.array([3.0]))[[0, 0]], cost.snap(np.array([4.6, 3.9]))[::-1])
    assert clips > keeps + 0.3


def test_a_pixel_s_levels_are_all_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 50_000).astype(np.float32) / np.float32(255)
    assert range_of(histogram(pixels), Method.ENTROPY_ASYM) == (0, 1)


def test_the_densest_bin_next_to_zero_is_no_spike() -> None:
    """Half the values lie in the first of 32,768 bins, and yet all of them differ."""
    values = np.random.default_rng(0).lognormal(0, 2.5, 50_000).astype(np.float32)
    found = range_of(histogram(values), Method.ENTROPY_ASYM)
    assert 0.01 * values.max() < found[1] < 0.05 * values.max()


# what clips and what does not


@pytest.mark.parametrize("name", ["heavy", "outlier", "after relu"])
def test_outliers_are_clipped_by_all_but_min_max(name: str) -> None:
    values = sample(name)
    found = histogram(values)
    widths = {method: high - low for method in Method for low, high in [range_of(found, method)]}
    for symmetric in (0, 1):
        extremes = widths[Method(Method.MIN_MAX_ASYM + symmetric)]
        error = widths[Method(Method.MSE_ASYM + symmetric)]
        entropy = widths[Method(Method.ENTROPY_ASYM + symmetric)]
        assert entropy < error < extremes
        assert widths[Method(Method.PERCENTILE_ASYM + symmetric)] < extremes
        assert entropy < 0.7 * extremes


def test_entropy_leaves_a_bulk_with_one_far_outlier_whole() -> None:
    values = sample("outlier")
    bulk = values[values < 50]
    low, high = range_of(histogram(values), Method.ENTROPY_ASYM)
    assert 0.75 * bulk.max() <= high <= 8 * bulk.max()
    assert 0.75 * bulk.min() >= low >= bulk.min()


def test_the_two_ends_are_clipped_apart() -> None:
    bulk = sample("normal")
    found = histogram(np.append(bulk, -80).astype(np.float32))
    for method, least, most in ((Method.ENTROPY_ASYM, -40, -3), (Method.MSE_ASYM, -80, -60)):
        low, high = range_of(found, method)
        assert least <= low <= most
        assert 0.7 * bulk.max() <= high <= bulk.max()
