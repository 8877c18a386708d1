"""Many elements become one, or are weighed against each other: by hand and by slow integers."""

import math

import numpy as np
import pytest

from furiosa.enf import Opcode
from support.kernels import I8, U8, f32, i8, i32, run


def test_resizing_weighs_rows_then_columns() -> None:
    x = i8([[[0, 8], [4, 20]]])
    # one row halfway, columns at 0, 1/4 and 1: 2, 2 + (14 - 2) / 4, 14, halved
    parameters = i32(0, 1, 0, 0, 0, 1, 1, 1)
    found = run(
        Opcode.RESIZE_LINEAR, I8, (1, 1, 1, 3), x, f32(0.5, 0, 0.25, 1, 0.5), parameters, zero_out=1
    )
    assert found.tolist() == [[[[2, 3, 8]]]]  # 2.5 goes to the even 2, before 1 is added


def test_reductions() -> None:
    x = i8([[3, 4], [0, -5]])
    assert run(Opcode.REDUCE_SUM, I8, (1, 2, 1), x, f32(0.5), i32(2), zero0=1).tolist() == [
        [[2], [-4]]  # 5 / 2 and -7 / 2, ties to even
    ]
    assert run(Opcode.REDUCE_L2, I8, (1, 2, 1), x, f32(2), i32(2)).tolist() == [[[10], [10]]]
    assert run(Opcode.REDUCE_L2, I8, (1, 1, 1), x, f32(1), i32(1, 2)).tolist() == [[[7]]]


def test_normalising_keeps_zeros() -> None:
    x = i8([3, 4], [0, 0])
    found = run(Opcode.L2_NORMALIZE, I8, (2, 2), x, f32(100), i32(1), zero_out=5)
    assert found.tolist() == [[65, 85], [5, 5]]


def test_softmax_looks_at_differences_only() -> None:
    terms = np.zeros(256, np.float32)
    terms[[0, 1, 255]] = 8, 4, 1
    for x in (i8([10, 9, 10]), np.array([[1, 0, 1]], np.uint8)):
        found = run(Opcode.SOFTMAX, U8, (1, 3), x, terms, f32(1 / 64), axis=1, zero_out=1)
        assert found.tolist() == [[27, 14, 27]]  # 8/20, 4/20, 8/20 of 64: 25.6, 12.8
    found = run(Opcode.SOFTMAX, U8, (1, 2), i8([127, -128]), terms, f32(1 / 9), axis=1)
    assert found.tolist() == [[8, 1]]


@pytest.mark.parametrize(
    ("terms", "scale", "expected"),
    [
        ((5, 3), 0.03, [21, 12]),  # 3/8 / 0.03 is 12.5; times 1 / 0.03 it is 12.500001
        ((13, 7), 0.1, [6, 4]),  # 7/20 / 0.1 is 3.5; in double it is 3.4999999
    ],
)
def test_softmax_divides_in_single_precision(
    terms: tuple[int, int], scale: float, expected: list[int]
) -> None:
    weights = np.zeros(256, np.float32)
    weights[:2] = terms
    found = run(Opcode.SOFTMAX, I8, (2,), i8(1, 0), weights, f32(scale))
    assert found.tolist() == expected


def test_products_of_matrices() -> None:
    x, y = i8([1, 2], [3, 4]), i8([5, 6], [7, 8])
    found = run(Opcode.MATMUL, I8, (2, 2), x, y, f32(1), zero0=1, zero1=5, zero_out=-2)
    # [0 1; 2 3] times [0 1; 2 3]
    assert found.tolist() == [[0, 1], [4, 9]]


@pytest.mark.parametrize("seed", range(10))
def test_sums_of_products_are_exact(seed: int) -> None:
    """All signs and sizes, against whole numbers of any length."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (3, 500)).astype(np.int8)
    y = rng.integers(0, 256, (500, 2)).astype(np.uint8)
    found = run(Opcode.MATMUL, I8, (3, 2), x, y, f32(1e-5), zero0=-128, zero1=255)
    for r in range(3):
        for c in range(2):
            acc = sum((int(a) + 128) * (int(b) - 255) for a, b in zip(x[r], y[:, c], strict=True))
            value = round(float(np.float32(np.float32(acc) * np.float32(1e-5))))
            assert found[r, c] == min(max(value, -128), 127)


def test_a_norm_is_the_float32_nearest_to_the_root() -> None:
    x = np.arange(1, 120, dtype=np.int8)
    total = sum(int(v) ** 2 for v in x)
    found = run(Opcode.REDUCE_L2, U8, (1,), x, f32(0.1), i32(0))
    assert found[0] == round(float(np.float32(np.float32(math.sqrt(total)) * np.float32(0.1))))


ONE_SUM = {
    Opcode.REDUCE_SUM: (i8([25]), f32(0.1), i32(1)),
    Opcode.REDUCE_L2: (i8([25]), f32(0.1), i32(1)),
    Opcode.MATMUL: (i8([25]), i8([1]), f32(0.1)),
    Opcode.AVERAGE_POOL2D: (i8([[[25]]]), f32([0.1])),
    Opcode.RESIZE_LINEAR: (i8([[[25]]]), f32(0, 0, 0.1), i32(0, 0, 0, 0)),
}


@pytest.mark.parametrize("opcode", ONE_SUM)
def test_sums_are_scaled_in_single_precision(opcode: Opcode) -> None:
    """25 * float32(0.1) is 2.5 in float32, which goes to 2, and 2.5000000372529 in double."""
    operands = ONE_SUM[opcode]
    assert run(opcode, I8, operands[0].shape, *operands) == 2


def test_normalising_divides() -> None:
    """f / f is 1; f * (1 / f) is less for some f, and 3.5 times that would go to 3."""
    x = np.arange(1, 256).astype(np.uint8).reshape(255, 1)
    found = run(Opcode.L2_NORMALIZE, U8, (255, 1), x, f32(3.5), i32(1))
    assert (found == 4).all()
