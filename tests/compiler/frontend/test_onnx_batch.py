"""ONNX models of several inferences: dimension 0 grows where that means so many inferences."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.options import CompilerOptions
from support.models import Net


def net() -> Net:
    return Net((1, 3, 8, 8))


def imported(model: onnx.ModelProto, batch: int = 1) -> Dfg:
    return import_onnx(model.SerializeToString(), CompilerOptions(batch_size=batch))


BATCH_REFUSED: dict[str, tuple[Callable[[Net], str], str]] = {
    "softmax over the batch": (
        lambda n: n.node("Softmax", "s", ["image"], axis=0),
        "node 's' (Softmax): it mixes the entries of a batch; compile it with batch size 1",
    ),
    "transpose of the batch": (
        lambda n: n.node("Transpose", "t", ["image"], perm=[1, 0, 2, 3]),
        "node 't' (Transpose): it mixes the entries of a batch",
    ),
    "axes that are no list": (
        lambda n: n.node(
            "Slice",
            "s",
            [
                "image",
                *(n.constant(f"k{at}", np.array([at], np.int64)) for at in (0, 1)),
                n.constant("axis", np.array(0, np.int64)),
            ],
        ),
        "node 's' (Slice): it mixes the entries of a batch",
    ),
    "transpose without a permutation": (
        lambda n: n.node("Transpose", "t", ["image"]),
        "node 't' (Transpose): it mixes the entries of a batch",
    ),
    "sum over everything": (
        lambda n: n.node("ReduceMean", "r", ["image"]),
        "node 'r' (ReduceMean): it mixes the entries of a batch",
    ),
    "tiles of the batch": (
        lambda n: n.node("Tile", "t", ["image", n.constant("k", np.array([2, 1, 1, 1]))]),
        "node 't' (Tile): it mixes the entries of a batch",
    ),
    "normalisation over the batch": (
        lambda n: n.node("LpNormalization", "p", ["image"], axis=0),
        "node 'p' (LpNormalization): it mixes the entries of a batch",
    ),
    "broadcast over the batch": (
        lambda n: n.node(
            "Add", "a", ["image", n.constant("k", np.zeros((2, 1, 1, 1), np.float32))]
        ),
        "node 'a' (Add): its result 'a:0' has shape [2, 3, 8, 8] for one inference and [2, 3, 8, 8]",
    ),
    "interpolation between inferences": (
        lambda n: n.node(
            "Resize",
            "r",
            ["image", "", n.constant("k", np.array([2, 1, 1, 1], np.float32))],
            mode="linear",
        ),
        "node 'r' (Resize): it mixes the entries of a batch",
    ),
    "a result of constants": (
        lambda n: n.node("Identity", "i", [n.constant("k", np.zeros((4, 3), np.float32))]),
        "output 'i:0' is the same for every inference; compile it with batch size 1",
    ),
    "constants joined to what grows": (
        lambda n: n.node(
            "Concat", "c", ["image", n.constant("k", np.zeros((1, 1, 8, 8), np.float32))], axis=1
        ),
        "node 'c' (Concat): in a batch of 2 its shapes do not fit together",
    ),
}


@pytest.mark.parametrize("name", BATCH_REFUSED)
def test_batch_that_would_mix_inferences_is_refused(name: str) -> None:
    build, message = BATCH_REFUSED[name]
    n = net()
    model = n.model(build(n))
    imported(model)  # fine for one
    with pytest.raises(InvalidModel) as caught:
        imported(model, batch=2)
    assert str(caught.value).startswith(message)


def test_batch_grows_literal_reshape_targets() -> None:
    n = net()
    target = n.constant("to", np.array([1, 3, 64], np.int64))
    graph = imported(n.model(n.node("Reshape", "r", ["image", target])), batch=4)
    assert graph.values["r:0"].shape == (4, 3, 64)


def test_a_softmax_over_all_dimensions_of_an_inference_grows_by_inferences() -> None:
    n = Net((1, 3, 8, 8), opset=12)
    graph = imported(n.model(n.node("Softmax", "s", ["image"])), batch=4)
    assert [node.op for node in graph.nodes] == ["Reshape", "Softmax", "Reshape"]
    assert [graph.values[node.outputs[0]].shape for node in graph.nodes] == [
        (4, 192),
        (4, 192),
        (4, 3, 8, 8),
    ]


BATCH_TAKEN: dict[str, Callable[[Net], str]] = {
    "Abs": lambda n: n.node("Abs", "y", ["image"]),
    "Celu": lambda n: n.node("Celu", "y", ["image"]),
    "LpNormalization": lambda n: n.node("LpNormalization", "y", ["image"], axis=1),
    "Tile": lambda n: n.node("Tile", "y", ["image", n.constant("k", np.array([1, 2, 1, 3]))]),
    "Gather, from a constant table": lambda n: n.node(
        "Gather",
        "y",
        [
            n.constant("k", np.zeros((100, 5), np.float32)),
            n.node("Cast", "i", ["image"], to=onnx.TensorProto.INT64),
        ],
    ),
    "Reshape, to integers of a Constant": lambda n: n.node(
        "Reshape", "y", ["image", n.node("Constant", "k", [], value_ints=[1, 3, 64])]
    ),
    "Resize, to sizes": lambda n: n.node(
        "Resize", "y", ["image", "", "", n.constant("k", np.array([1, 3, 16, 16]))]
    ),
    "MatMul, a constant matrix on the left": lambda n: n.node(
        "MatMul", "y", [n.constant("k", np.ones((5, 8), np.float32)), "image"]
    ),
}


@pytest.mark.parametrize("name", BATCH_TAKEN)
def test_what_keeps_inferences_apart_grows(name: str) -> None:
    n = net()
    model = n.model(BATCH_TAKEN[name](n))
    one, four = (imported(model, batch).values["y:0"].shape for batch in (1, 4))
    assert four == (4, *one[1:])


def test_sizes_of_some_axes_do_not_grow() -> None:
    n = Net((1, 3, 8, 8), opset=18)
    sizes = n.constant("k", np.array([16, 16]))
    model = n.model(n.node("Resize", "y", ["image", "", "", sizes], axes=[2, 3]))
    assert imported(model, batch=4).values["y:0"].shape == (4, 3, 16, 16)
