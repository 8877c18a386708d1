"""Passes on what the caller gives and gets, as text: golden/<pass>/<case>.txt has before and after."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler import CompilerConfig, CompilerOptions, InvalidModel
from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.passes.fuse_requantize import FuseRequantize
from furiosa.compiler.dfg.passes.grow_batch import GrowBatch
from furiosa.compiler.dfg.passes.permute_inputs import PermuteInputs
from furiosa.compiler.dfg.passes.remove_lower import RemoveLower
from furiosa.compiler.dfg.passes.remove_unlower import RemoveUnlower
from furiosa.compiler.infra import Pass
from support.passes import golden, unchanged
from support.sketches import WINDOW, Sketch, q

S = (1, 2, 4, 4)
CLAMP: dict[str, Any] = {"low": -128, "high": 127}


def pooled() -> Dfg:
    """A float image, quantised, pooled, requantised and dequantised."""
    s = Sketch()
    x = s.node("Quantize", [s.input("x", S)], "xq", S, "int8", q(0.5, 3))
    p = s.node("MaxPool", [x], "p", S, "int8", q(0.5, 3), **WINDOW)
    r = s.node("Requantize", [p], "r", S, "int8", q(0.25, 1), **CLAMP)
    return s.done(s.node("Dequantize", [r], "y", S))


def configured(**config: Any) -> CompilerOptions:
    return CompilerOptions(config=CompilerConfig(**config))


CASES: list[tuple[str, Pass[Dfg], CompilerOptions]] = [
    ("image", PermuteInputs(), configured(permute_input=((0, 2, 3, 1),))),
    ("image", RemoveLower(), configured(remove_lower=True)),
    ("image", RemoveUnlower(), configured(remove_unlower=True)),
    ("image", GrowBatch(), CompilerOptions(batch_size=3)),
]


@pytest.mark.parametrize(("case", "work", "options"), CASES)
def test_what_a_pass_does_when_it_is_asked_to(
    case: str, work: Pass[Dfg], options: CompilerOptions
) -> None:
    golden(case, work, pooled(), options)
    unchanged(work, pooled())


def test_a_finer_step_between_two_roundings_goes() -> None:
    s = Sketch()
    a, b = (s.input(name, S, "int8", q(1)) for name in "ab")
    x = s.node("QAdd", [a, b], "x", S, "int8", q(0.25), **CLAMP)
    y = s.node("Requantize", [x], "y", S, "int8", q(0.5, 2), **CLAMP)
    golden("add", FuseRequantize(), s.done(y), configured(allow_precision_error=True))


def one(op: str, shape: tuple[int, ...], result: tuple[int, ...], **attributes: Any) -> Dfg:
    s = Sketch()
    x = s.input("x", shape, "int8", q(1))
    y = s.node(op, [x], "y", result, "int8", q(1), **attributes)
    return s.done(y)


MIXING = [
    one("Transpose", (2, 3), (3, 2), perm=(1, 0)),
    one("QReduceSum", (2, 3), (1, 3), axes=(0,), **CLAMP),
    one("Split", (2, 3), (2, 3), axis=0),
    one("Abs", (2, 3), (2, 3)),
]


@pytest.mark.parametrize("graph", MIXING)
def test_what_may_mix_the_entries_of_a_batch_is_refused(graph: Dfg) -> None:
    with pytest.raises(InvalidModel, match="it may mix the entries of a batch"):
        GrowBatch().run(graph, CompilerOptions(batch_size=2))


def test_a_constant_that_differs_between_entries_is_refused() -> None:
    s = Sketch()
    x = s.input("x", (2, 3), "int8", q(1))
    for rows in (1, 2):
        k = s.constant(f"k{rows}", np.ones((rows, 3)), "int8", q(1))
        y = s.node("QAdd", [x, k], f"y{rows}", (2, 3), "int8", q(1), **CLAMP)
        if rows == 1:
            assert GrowBatch().run(s.graph, CompilerOptions(batch_size=2)).changed
    with pytest.raises(InvalidModel, match="it may mix the entries of a batch"):
        GrowBatch().run(s.done(y), CompilerOptions(batch_size=2))


def test_what_the_npu_cannot_do_with_a_batch_is_refused() -> None:
    graph = one("QSoftmax", (1, 3), (1, 3), axes=(1,), **CLAMP)
    assert GrowBatch().run(graph, CompilerOptions(batch_size=2)).changed
    with pytest.raises(InvalidModel, match="in a batch of 4 its batch is 4, at most 2"):
        GrowBatch().run(graph, CompilerOptions(batch_size=4))
