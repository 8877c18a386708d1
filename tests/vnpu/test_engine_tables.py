"""Tables: the general lookup, and the ones onnxruntime makes itself."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from furiosa.common.tensor import DType
from furiosa.enf import Opcode
from furiosa.vnpu.npugraph.lines import two_lines
from support.agreement import agree, one

INDEX = np.arange(256)
Array = npt.NDArray[Any]


def stored(values: Array, low: int = 0, high: int = 255) -> Array:
    return np.clip(np.rint(values), low, high).astype(np.uint8)


def leaky(corner: int, slope: float, before: float) -> Array:
    d = INDEX - corner
    return np.where(d >= 0, d * slope, d * before)


LINES = {
    "identity": stored(INDEX),
    "rescaling": stored((INDEX - 31) * np.float32(0.9) + 7),
    "half": stored(np.rint((INDEX - 31) * 0.5) + 7),
    "negation": stored(255 - INDEX),
    "magnitude": stored(abs(INDEX - 128)),
    "relu": stored(np.maximum(INDEX, 100)),
    "clamp": stored((INDEX - 30) * 1.7, 20, 150),
    "leaky relu": stored(leaky(120, 0.8, 0.08) + 15),
    "minimum": stored(np.minimum(INDEX, 128)),
    "constant": stored(np.full(256, 7)),
    "step": stored((INDEX > 77) * 255),
}
CURVES = {
    "sigmoid": stored(256 / (1 + np.exp((128 - INDEX) * 0.05))),
    "hard swish": stored((INDEX - 100) * np.clip((INDEX - 100) / 60 + 0.5, 0, 1)),
    "sine": stored(np.sin(INDEX / 9) * 100 + 128),
    "peak": stored(255 - abs(INDEX - 128)),
    "one flaw": stored(INDEX + (INDEX == 77)),
}


def every_value(entries: Array, source: DType, out: DType) -> Array:
    """The engine's results, for the source's values from the least on; they are the interpreter's."""
    least = 0 if source is DType.UINT8 else -128
    program = one(
        Opcode.TABLE,
        [(source, (256,))],
        (out, (256,)),
        constants={"weights": entries.view(out.numpy)},
    )
    (found,) = agree(program, [(INDEX + least).astype(source.numpy)])
    return found


@pytest.mark.parametrize("source", [DType.INT8, DType.UINT8])
@pytest.mark.parametrize("out", [DType.INT8, DType.UINT8])
@pytest.mark.parametrize("kind", [*LINES, *CURVES])
def test_every_entry_is_looked_up(kind: str, source: DType, out: DType) -> None:
    entries = (LINES | CURVES)[kind]
    np.testing.assert_array_equal(every_value(entries, source, out).view(np.uint8), entries)


@pytest.mark.parametrize("kind", LINES)
def test_two_lines_are_found(kind: str) -> None:
    assert two_lines(LINES[kind]) is not None


@pytest.mark.parametrize("kind", CURVES)
def test_curves_are_no_lines(kind: str) -> None:
    assert two_lines(CURVES[kind]) is None


@pytest.mark.parametrize("seed", range(25))
def test_random_lines_are_drawn_by_onnxruntime_as_predicted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slope, before = rng.uniform(0.01, 2.0, 2)
    entries = stored(np.rint(leaky(int(rng.integers(20, 236)), slope, before)) + 100)
    assert two_lines(entries) is not None
    np.testing.assert_array_equal(every_value(entries, DType.UINT8, DType.UINT8), entries)


@pytest.mark.parametrize("seed", range(25))
def test_leaky_relus_of_other_scales_are_two_lines(seed: int) -> None:
    """As a compiler makes them: in real numbers, each step rounded."""
    rng = np.random.default_rng(seed)
    before = np.float32(rng.uniform(0.01, 0.1))
    after = np.float32(before * rng.uniform(0.4, 2))
    real = ((INDEX - rng.integers(40, 216)).astype(np.float32)) * before
    bent = np.where(real < 0, real * np.float32(0.1), real).astype(np.float32)
    entries = stored(np.rint(bent / after) + rng.integers(0, 200))
    assert two_lines(entries) is not None
    np.testing.assert_array_equal(every_value(entries, DType.UINT8, DType.UINT8), entries)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_place_on_an_axis_has_its_own_table(axis: int) -> None:
    rng = np.random.default_rng(axis)
    shape = (3, 4, 256)
    program = one(
        Opcode.TABLE,
        [(DType.INT8, shape)],
        (DType.INT8, shape),
        constants={"weights": rng.integers(-128, 128, (shape[axis], 256))},
        axis=axis,
    )
    agree(program, [rng.integers(-128, 128, shape).astype(np.int8)])
