"""Sums and products in one operator: used where all results of all pairs of bytes are right, else not."""

from typing import Any

import numpy as np
import pytest

from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Program
from furiosa.vnpu import Engine, Interpreter, session
from furiosa.vnpu.fused import MOST, fused
from furiosa.vnpu.npugraph.machine import pair_of
from support.programs import Draft

I8, U8, F32 = DType.INT8, DType.UINT8, DType.FLOAT32
SHAPE = (256, 256)


def of_all_bytes(
    opcode: Opcode,
    factors: tuple[float, float],
    kind: DType = I8,
    zeros: tuple[int, int, int] = (0, 0, 0),
) -> Program:
    draft = Draft()
    x, y = draft.input(kind, SHAPE), draft.input(kind, SHAPE)
    out = draft.buffer(kind, SHAPE)
    low, high = (-128, 127) if kind is I8 else (0, 255)
    draft.emit(
        opcode,
        out,
        x,
        source1=y,
        multiplier=draft.constant(factors, F32),
        zero0=zeros[0],
        zero1=zeros[1],
        zero_out=zeros[2],
        low=low,
        high=high,
    )
    draft.output(out)
    return draft.finish()


def all_bytes(kind: DType) -> list[np.ndarray[Any, Any]]:
    values = np.arange(256, dtype=np.uint8).view(kind.numpy)
    return [values.repeat(256).reshape(SHAPE), np.tile(values, 256).reshape(SHAPE)]


CASES = [
    (Opcode.ADD, (1.0, 1.0), I8, (0, 0, 0)),
    (Opcode.ADD, (0.5, 0.5), U8, (0, 0, 0)),  # half of the sums are ties
    (Opcode.ADD, (0.5, -0.5), U8, (7, 9, 128)),
    (Opcode.ADD, (0.1, 0.3), U8, (3, 250, 17)),
    (Opcode.ADD, (1e-30, 1e30), I8, (0, 0, 0)),
    (Opcode.ADD, (2.0**100, -(2.0**100)), I8, (5, 5, 0)),
    (Opcode.MULTIPLY, (0.1, 0.3), I8, (1, 2, 3)),
    (Opcode.MULTIPLY, (0.25, 0.5), U8, (0, 0, 0)),
    (Opcode.MULTIPLY, (-(2.0**60), 2.0**60), I8, (0, 0, 0)),
]


@pytest.mark.parametrize(("opcode", "factors", "kind", "zeros"), CASES)
def test_all_results_are_those_of_the_interpreter(
    opcode: Opcode, factors: tuple[float, float], kind: DType, zeros: tuple[int, int, int]
) -> None:
    program = of_all_bytes(opcode, factors, kind, zeros)
    inputs = all_bytes(kind)
    expected = Interpreter(program).run(inputs)
    np.testing.assert_array_equal(Engine(program).run(inputs), expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_factors_give_the_same_results_fused_or_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    opcode = (Opcode.ADD, Opcode.MULTIPLY)[seed % 2]
    first, second = (float(f) for f in rng.uniform(0.1, 1.5, 2).astype(np.float32))
    zeros = tuple(int(z) for z in rng.integers(0, 256, 3))
    assert len(zeros) == 3
    program = of_all_bytes(opcode, (first, second), U8, zeros)
    inputs = all_bytes(U8)
    np.testing.assert_array_equal(Engine(program).run(inputs), Interpreter(program).run(inputs))


def test_usual_factors_are_fused_if_need_be_with_neighbours() -> None:
    rng = np.random.default_rng(1)
    count = exact = 0
    for _ in range(40):
        first, second = (float(f) for f in rng.uniform(0.1, 1.5, 2).astype(np.float32))
        program = of_all_bytes(Opcode.ADD, (first, second), U8, (128, 100, 90))
        for pair, factors in fused(program).items():
            count += 1
            exact += pair.factors == factors
            for mine, given in zip(factors, pair.factors, strict=True):
                assert abs(np.float32(mine).view(np.int32) - np.float32(given).view(np.int32)) <= 1
    assert count > 30
    assert 0 < exact < count, "no neighbour was ever needed, or always"


def test_an_operator_that_is_wrong_once_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    program = of_all_bytes(Opcode.ADD, (1.0, 1.0))
    assert fused(program)
    create = session.create

    class Wrong:
        def __init__(self, model: bytes, threads: int) -> None:
            self.real = create(model, threads)

        def run(self, *arguments: Any) -> list[Any]:
            results = self.real.run(*arguments)
            for result in results:
                result[4711] ^= 1
            return list(results)

    monkeypatch.setattr(session, "create", Wrong)
    assert fused(program) == {}


def test_a_repeated_source_is_no_pair() -> None:
    draft = Draft()
    x, y = draft.input(I8, (4, 8)), draft.input(I8, (1, 8))
    out = draft.buffer(I8, (4, 8))
    ones = draft.constant([1.0, 1.0], F32)
    draft.emit(Opcode.ADD, out, x, source1=y, multiplier=ones, low=-128, high=127)
    draft.output(out)
    program = draft.finish()
    assert pair_of(program, program.instructions[0]) is None


def test_trials_are_bounded() -> None:
    draft = Draft()
    x = draft.input(I8, (8,))
    for number in range(MOST + 10):
        factors = draft.constant([1.0, 1.0 + number / 1024], F32)
        out = draft.buffer(I8, (8,))
        x = draft.emit(Opcode.ADD, out, x, source1=x, multiplier=factors, low=-128, high=127)
    draft.output(x)
    assert len(fused(draft.finish())) <= MOST
