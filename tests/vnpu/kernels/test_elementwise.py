"""One result for each element, against values worked out by hand."""

import math

import numpy as np
import pytest

from furiosa.enf import Opcode
from support.kernels import F32, I8, U8, f32, i8, run


@pytest.mark.parametrize(
    ("a", "b", "multiplier", "fields", "expected"),
    [
        (3, 4, (1.0, 1.0), {}, 7),
        (3, 4, (0.5, 0.25), {}, 2),  # 2.5
        (3, 4, (0.5, 0.5), {}, 4),  # 3.5
        (3, 4, (0.5, 0.5), {"zero_out": 1}, 5),
        (3, 4, (1.0, 1.0), {"zero0": 3, "zero1": -4}, 8),
        (100, 100, (1.0, 1.0), {}, 127),
        (-100, -100, (1.0, 1.0), {"low": -20}, -20),
        (127, -128, (2.0**100, 2.0**100), {"zero_out": 5}, -128),
        # in float32, 2**24 + 1 is 2**24: each term and the sum are rounded
        (1, 1, (2.0**24, 1.0), {}, 127),
        (127, 127, (2.0**25, 1.0), {"zero0": 127, "zero1": 126}, 1),
    ],
)
def test_additions(
    a: int, b: int, multiplier: tuple[float, float], fields: dict[str, int], expected: int
) -> None:
    x0, x1 = np.array([a], np.int8), np.array([b], np.int8)
    assert run(Opcode.ADD, I8, (1,), x0, x1, f32(*multiplier), **fields) == expected


def test_additions_round_every_term_before_summing() -> None:
    """-125 * 0.1 + 20 * 0.5 is -2.5 when the product is rounded, -2.5000002 when it is fused."""
    a, b = np.array([-125], np.int8), np.array([20], np.int8)
    assert run(Opcode.ADD, I8, (1,), a, b, f32(0.1, 0.5)) == -2


def test_additions_of_mixed_types() -> None:
    x0, x1 = np.array([-5], np.int8), np.array([250], np.uint8)
    found = run(Opcode.ADD, U8, (1,), x0, x1, f32(1, 1), zero1=200, zero_out=10)
    assert found == 55


def test_sums_broadcast_and_subtract() -> None:
    column, row = i8([1], [2]), i8([10, 20, 30])
    found = run(Opcode.ADD, I8, (2, 3), column, row, f32(1, -0.5), zero0=0, zero1=10, zero_out=3)
    # 1 - 0, 1 - 5, 1 - 10 and the same of 2, each 3 higher
    assert found.tolist() == [[4, -1, -6], [5, 0, -5]]


def test_products_round_thrice() -> None:
    # 0.2 * 12.5 is 2.5 in float32, which goes to 2, and 2.500000037 in double
    assert run(Opcode.MULTIPLY, I8, (1,), i8(2), i8(125), f32(0.1, 0.1)) == 2
    found = run(Opcode.MULTIPLY, U8, (3,), i8(5, -5, 7), i8(3), f32(0.5, -1), zero1=4, zero_out=9)
    # 2.5 * 1 to even, -2.5 * 1 to even, 3.5 * 1
    assert found.tolist() == [11, 7, 13]


def test_a_table_is_indexed_from_the_least_value() -> None:
    table = np.arange(255, -1, -1).astype(np.uint8)
    assert run(Opcode.TABLE, U8, (3,), i8(-128, 0, 127), table).tolist() == [255, 127, 0]
    assert run(Opcode.TABLE, U8, (2,), np.array([0, 255], np.uint8), table).tolist() == [255, 0]


def test_a_table_for_each_channel() -> None:
    tables = np.stack([np.arange(256), np.full(256, 7)]).astype(np.uint8)
    x = i8([[-128, -127], [5, 6]])
    found = run(Opcode.TABLE, U8, (1, 2, 2), x, tables, axis=1)
    assert found.tolist() == [[[0, 1], [7, 7]]]
    assert run(Opcode.TABLE, U8, (1, 2, 2), x, tables, axis=2).tolist() == [[[0, 7], [133, 7]]]


@pytest.mark.parametrize(
    ("x", "scale", "zero", "expected"),
    [
        (0.25, 0.5, 0, 0),
        (0.75, 0.5, 0, 2),
        (1.25, 0.5, 0, 2),
        (-0.25, 0.5, 0, 0),
        (-0.75, 0.5, 0, -2),
        (1.25, 0.5, 7, 9),
        (1e30, 0.5, 0, 127),
        (-1e30, 1e-30, 0, -128),
        (math.inf, 1.0, 0, 127),
        (-math.inf, 1.0, 0, -128),
        (math.nan, 1.0, 5, -128),
        (0.3, 0.1, 0, 3),
        # divided in single precision; the product with 1 / scale would give 2.4999998
        (4.9999995, 2.0, 0, 2),
    ],
)
def test_quantisation(x: float, scale: float, zero: int, expected: int) -> None:
    assert run(Opcode.QUANTIZE, I8, (1,), f32(x), f32(scale), zero_out=zero) == expected


def test_quantisation_divides() -> None:
    """Multiplying by the reciprocal would be faster and different."""
    rng = np.random.default_rng(0)
    x = (rng.integers(-255, 256, 5000) + 0.5).astype(np.float32) * np.float32(0.07)
    found = run(Opcode.QUANTIZE, U8, (5000,), x, f32(0.07), zero_out=128)
    quotients = [np.float32(v) / np.float32(0.07) for v in x]
    expected = [min(max(round(float(q)) + 128, 0), 255) for q in quotients]
    assert found.tolist() == expected
    products = np.clip(np.rint(x * np.float32(1 / np.float32(0.07))) + 128, 0, 255)
    assert (products != found).any()


def test_dequantisation() -> None:
    x = np.array([-128, 0, 127], np.int8)
    found = run(Opcode.DEQUANTIZE, F32, (3,), x, f32(0.5), zero0=127)
    assert found.tolist() == [-127.5, -63.5, 0.0]
    x = np.array([255], np.uint8)
    assert run(Opcode.DEQUANTIZE, F32, (1,), x, f32(0.1)) == np.float32(25.5)
