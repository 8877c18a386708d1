"""Every operation on float32 values rounds by itself: the kernels against fractions."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from furiosa.enf import Opcode, Window
from support.kernels import I8, Array, f32, i32, run

SHAPE = (2, 3, 4, 5)
POINTS = {"zero0": -3, "zero_out": 7}


def single(value: Fraction) -> Fraction:
    """The float32 nearest to `value`, ties to even; of numbers that are not too small or large."""
    if not value:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def root(value: Fraction) -> Fraction:
    """The float32 nearest to the square root of a whole number."""
    return single(Fraction(math.isqrt(int(value) << 100), 1 << 50))


def stored(value: Fraction, zero: int = POINTS["zero_out"]) -> int:
    return min(max(round(value) + zero, -128), 127)


def whole(x: Array, zero: int) -> Array:
    """x - zero in fractions, so that nothing below rounds unless it says so."""
    return each(lambda v: Fraction(int(v) - zero), x)


def each(function: Callable[..., Any], *arrays: Any) -> Array:
    found: Array = np.vectorize(function, otypes=[object])(*arrays)
    return found


def test_fractions_round_like_float32() -> None:
    rng = np.random.default_rng(0)
    for a, b in rng.uniform(-9, 9, (500, 2)).astype(np.float32):
        product, quotient = (
            single(Fraction(float(a)) * Fraction(float(b))),
            single(Fraction(float(a)) / Fraction(float(b))),
        )
        assert (float(product), float(quotient)) == (a * b, a / b)
    assert single(Fraction(2**24 + 1)) == 2**24
    assert single(Fraction(2**24 + 3)) == 2**24 + 4


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape or SHAPE).astype(np.int8)


def factors(seed: int, size: int, mean: float) -> tuple[Array, list[Fraction]]:
    """float32 factors around `mean`, half of them decimal: with them, many a product is a tie in
    float32 and none in more digits."""
    rng = np.random.default_rng(seed + 1000)
    decimal = rng.integers(1, 10, size) * 10.0 ** math.floor(math.log10(mean))
    values = np.where(rng.random(size) < 0.5, decimal, mean * rng.uniform(0.5, 1.5, size))
    array = values.astype(np.float32)
    return array, [Fraction(float(v)) for v in array]


SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("opcode", [Opcode.ADD, Opcode.MULTIPLY])
def test_sums_and_products(opcode: Opcode, seed: int) -> None:
    x, y = drawn(seed), drawn(seed + 100, 2, 1, 4, 1).astype(np.uint8)
    multiplier, (m0, m1) = factors(seed, 2, 0.3 if opcode is Opcode.ADD else 0.05)
    multiplier[1], m1 = -multiplier[1], -m1
    found = run(opcode, I8, SHAPE, x, y, multiplier, **POINTS, zero1=100)

    def expected(a: Fraction, b: Fraction) -> int:
        f0, f1 = single(a * m0), single(b * m1)
        return stored(single(f0 + f1 if opcode is Opcode.ADD else f0 * f1))

    assert (found == each(expected, whole(x, -3), whole(y, 100))).all()
    assert ((found > -128) & (found < 127)).sum() > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_resizing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, (height, width) = drawn(seed), (7, 6)
    u, low = rng.integers(4, size=(2, height))
    a, b = rng.integers(5, size=(2, width))
    weights = rng.random(height + width).astype(np.float32)
    weights[::3] = rng.choice([0, 0.25, 0.5, 1])
    scale, (m,) = factors(seed, 1, 0.7)
    down, across = (
        np.array([Fraction(float(v)) for v in part])
        for part in (weights[:height, None].ravel(), weights[height:])
    )
    parameters = np.concatenate([u, low, a, b]).astype(np.int32)
    operands = (x, np.concatenate([weights, scale]), parameters)
    found = run(Opcode.RESIZE_LINEAR, I8, (2, 3, height, width), *operands, **POINTS)

    def between(first: Fraction, second: Fraction, weight: Fraction) -> Fraction:
        return single(single(first * single(1 - weight)) + single(second * weight))

    real = whole(x, -3)
    rows = each(between, real[:, :, u], real[:, :, low], down[:, None])
    both = each(between, rows[..., a], rows[..., b], across)
    assert (found == each(lambda v: stored(single(v * m)), both)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_averages(seed: int) -> None:
    x = drawn(seed)
    window = Window((2, 3), strides=(1, 2), pads=(1, 0, 0, 1))
    multiplier, fractions = factors(seed, 8, 1 / 6)
    operands = (x, multiplier.reshape(4, 2))
    found = run(Opcode.AVERAGE_POOL2D, I8, (2, 3, 4, 2), *operands, window=window, **POINTS)
    padded = np.pad(whole(x, -3), ((0, 0), (0, 0), (1, 0), (0, 1)))
    for place, m in enumerate(fractions):
        r, c = divmod(place, 2)
        sums = padded[:, :, r : r + 2, 2 * c : 2 * c + 3].sum(axis=(2, 3))
        expected = each(lambda v, m=m: stored(single(single(v) * m)), sums)
        assert (found[:, :, r, c] == expected).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("axes", [(1,), (2, 3), (0, 1, 2, 3)])
def test_reductions(axes: tuple[int, ...], seed: int) -> None:
    x, real = drawn(seed), whole(drawn(seed), -3)
    sums = each(single, real.sum(axis=axes, keepdims=True))
    squares = each(single, (real * real).sum(axis=axes, keepdims=True))
    shape = sums.shape
    multiplier, (m,) = factors(seed, 1, 0.2)
    scaled = np.vectorize(lambda v: stored(single(v * m)), otypes=[int])
    found = run(Opcode.REDUCE_SUM, I8, shape, x, multiplier, i32(*axes), **POINTS)
    assert (found == scaled(sums)).all()
    norms = each(root, squares)
    found = run(Opcode.REDUCE_L2, I8, shape, x, multiplier, i32(*axes), **POINTS)
    assert (found == scaled(norms)).all()
    multiplier, (m,) = factors(seed, 1, 90)
    shares = each(lambda v, n: single(v / max(n, Fraction(1))), real, norms)
    found = run(Opcode.L2_NORMALIZE, I8, SHAPE, x, multiplier, i32(*axes), **POINTS)
    assert (found == scaled(shares)).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_softmax(axis: int, seed: int) -> None:
    x = drawn(seed)
    largest = 2**21 if seed % 2 else 20  # few small terms: simple shares, and ties
    terms = np.rint(largest * np.exp(-np.arange(256) / (5 + 9 * seed))).astype(np.float32)
    scale = Fraction(float(np.float32(0.005)))
    zeros = {"zero_out": -100}
    found = run(Opcode.SOFTMAX, I8, SHAPE, x, terms, f32(0.005), axis=axis, **zeros)
    below = x.max(axis=axis, keepdims=True).astype(int) - x
    e = each(lambda d: Fraction(int(terms[d])), below)
    shares = each(lambda a, b: single(a / b), e, e.sum(axis=axis, keepdims=True))
    assert (found == each(lambda v: stored(single(v / scale), -100), shares)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_products_of_matrices(seed: int) -> None:
    x, y = drawn(seed, 2, 3, 300), drawn(seed + 50, 2, 300, 4).astype(np.uint8)
    multiplier, (m,) = factors(seed, 1, 2.0**-14)
    found = run(Opcode.MATMUL, I8, (2, 3, 4), x, y, multiplier, **POINTS, zero1=120)
    sums = np.matmul(whole(x, -3), whole(y, 120))
    assert (found == each(lambda v: stored(single(single(v) * m)), sums)).all()
