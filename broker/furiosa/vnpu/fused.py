"""Sums and products of two activations in one operator of onnxruntime, where that gives our bits.

QLinearAdd and QLinearMul are several times as fast as one operator for each rounding, but in which order
they round depends on the CPU. A pair of bytes has no more than 65,536 different results, though: all of
them are computed here, on this machine, and the operator is used where every one is right. Where one is
not, factors a unit in the last place away often make it so.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf import NONE, Instruction, Program
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.vnpu import session
from furiosa.vnpu.kernels import KERNELS, Result
from furiosa.vnpu.npugraph.machine import PAIRED, PAIRED_DOMAIN, Factors, Pair, pair_of

MOST: Final = 256  # different ones of a program that are tried, at half a millisecond each
_AT_ONCE: Final = 32  # of which each has 64 KiB of results
_STEPS: Final = tuple(step for step in product((0, 1, -1), repeat=2) if any(step))

Bytes = npt.NDArray[np.uint8]
Trial = tuple[Pair, Factors]
_FIRST: Final[Bytes] = np.arange(256, dtype=np.uint8).repeat(256)
_SECOND: Final[Bytes] = np.tile(np.arange(256, dtype=np.uint8), 256)
_RESULT: Final = Result(np.dtype(np.uint8), (256, 256))


def fused(program: Program) -> dict[Pair, Factors]:
    """Pairs of the program that the operator computes to the bit, with the factors to give it."""
    found: dict[Pair, Factors] = {}
    pairs = (pair_of(program, i) for i in program.instructions)
    tried = tuple(islice(dict.fromkeys(pair for pair in pairs if pair), MOST))
    for start in range(0, len(tried), _AT_ONCE):
        expected = {pair: _expected(pair) for pair in tried[start : start + _AT_ONCE]}
        found |= _right([(pair, pair.factors) for pair in expected], expected)
        for pair in expected.keys() - found.keys():
            found |= _right([(pair, factors) for factors in _near(pair.factors)], expected)
    return found


def _expected(pair: Pair) -> Bytes:
    """What the interpreter makes of all pairs of bytes."""
    i = Instruction(
        pair.opcode,
        out=NONE,
        zero0=pair.zero0,
        zero1=pair.zero1,
        zero_out=pair.zero_out,
        low=0,
        high=255,
    )
    first, second = _FIRST.reshape(256, 256)[:, :1], _SECOND.reshape(256, 256)[:1]
    results = KERNELS[pair.opcode](i, _RESULT, first, second, np.array(pair.factors, np.float32))
    return results.reshape(-1)


def _near(factors: Factors) -> Iterator[Factors]:
    """Up to one unit in the last place of each away."""
    ends = [(factor, *_beside(factor)) for factor in factors]
    for first, second in _STEPS:
        yield ends[0][first], ends[1][second]


def _beside(factor: float) -> tuple[float, float]:
    exact = np.float32(factor)
    up, down = (np.nextafter(exact, np.float32(end)) for end in (np.inf, -np.inf))
    return float(up), float(down)


def _right(trials: Sequence[Trial], expected: Mapping[Pair, Bytes]) -> dict[Pair, Factors]:
    """Of the trials whose results are as expected, the first of each pair."""
    builder = GraphBuilder("fused", opset=18)
    for name in ("first", "second"):
        builder.input(name, DType.UINT8, _FIRST.shape)
    for number, (pair, factors) in enumerate(trials):
        scales = [builder.constant(np.array(f, np.float32)) for f in (*factors, 1.0)]
        zeros = (pair.zero0, pair.zero1, pair.zero_out)
        points = [builder.constant(np.array(zero, np.uint8)) for zero in zeros]
        operands = (
            "first",
            scales[0],
            points[0],
            "second",
            scales[1],
            points[1],
            scales[2],
            points[2],
        )
        builder.node(PAIRED[pair.opcode], operands, [f"result{number}"], domain=PAIRED_DOMAIN)
        builder.output(f"result{number}", DType.UINT8, _FIRST.shape)
    results = session.create(builder.build(), 1).run(None, {"first": _FIRST, "second": _SECOND})
    right = (
        trial
        for trial, result in zip(trials, results, strict=True)
        if np.array_equal(result, expected[trial[0]])
    )
    found: dict[Pair, Factors] = {}
    for pair, factors in right:
        found.setdefault(pair, factors)
    return found
