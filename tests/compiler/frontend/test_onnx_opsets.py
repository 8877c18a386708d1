"""Opsets 7 to 22: what the ONNX frontend keeps, converts exactly or refuses by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.model import opset_of, read_model
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.frontend.opset import CHANGED, NEWEST, OLDEST, settle
from furiosa.compiler.frontend.shapes import infer_shapes
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.onnxgraph import OPERATORS, OPSETS
from support.onnx_models import Builder, operators, random_inputs, run

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
IMAGE = (2, 3, 5, 4)


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """As the compiler goes on with it, and as onnxruntime can run it."""
    result = read_model(model.SerializeToString())
    settle(result)
    onnx.checker.check_model(result)
    infer_shapes(result)
    return result


def same(model: onnx.ModelProto) -> onnx.ModelProto:
    """The converted model, which gives bit for bit what the model gives."""
    converted = settled(model)
    inputs = random_inputs(model)
    for before, after in zip(run(model, *inputs), run(converted, *inputs), strict=True):
        assert before.dtype == after.dtype
        assert np.isfinite(before).all()
        np.testing.assert_array_equal(before, after)
    return converted


Sample = Callable[[Builder, str], str]

# opsets in which an operator has its old form, and uses of that form
OLD: dict[str, tuple[Sequence[int], Sequence[Sample]]] = {
    "BatchNormalization": (
        (7, 8),
        [
            lambda net, x: net.batch_norm(x, 3),
            lambda net, x: net.node(
                "BatchNormalization", x, *[net.constant([1.0, 2, 3]) for _ in range(4)], spatial=1
            ),
        ],
    ),
    "Clip": (
        range(7, 11),
        [
            lambda net, x: net.node("Clip", x, min=-0.5, max=0.25),
            lambda net, x: net.node("Clip", x, min=0.0),
            lambda net, x: net.node("Clip", x, max=0.5),
            lambda net, x: net.node("Clip", net.node("Div", x, net.constant(0))),  # of infinities
        ],
    ),
    "Dropout": (range(7, 12), [lambda net, x: net.node("Dropout", x, ratio=0.25)]),
    "Hardmax": (
        range(7, 13),
        [
            lambda net, x: net.node("Hardmax", x),
            lambda net, x: net.node("Hardmax", x, axis=2),
            lambda net, x: net.node("Hardmax", x, axis=3),
        ],
    ),
    "LogSoftmax": (
        range(7, 13),
        [
            lambda net, x: net.node("LogSoftmax", x),
            lambda net, x: net.node("LogSoftmax", x, axis=0),
        ],
    ),
    "Pad": (
        range(7, 11),
        [
            lambda net, x: net.node("Pad", x, pads=[0, 0, 1, 2, 0, 0, 3, 1], value=1.5),
            lambda net, x: net.node("Pad", x, pads=[0, 0, 1, 2, 0, 0, 3, 1]),
            lambda net, x: net.node("Pad", x, pads=[0, 0, 1, -1, 0, 0, 1, 1], mode="reflect"),
            lambda net, x: net.node("Pad", x, pads=[0, 0, 1, 2, 0, 0, 3, 1], mode="edge"),
        ],
    ),
    "ReduceSum": (
        range(7, 13),
        [
            lambda net, x: net.node("ReduceSum", x, axes=[1, 3], keepdims=0),
            lambda net, x: net.node("ReduceSum", x),
        ],
    ),
    "Resize": (
        (10,),
        [
            lambda net, x: net.node("Resize", x, net.constant([1, 1, 2, 3])),
            lambda net, x: net.node("Resize", x, net.constant([1, 1, 1.5, 1.3])),
            lambda net, x: net.node("Resize", x, net.constant([1, 1, 2, 2.5]), mode="linear"),
        ],
    ),
    "Scatter": (
        (9, 10),
        [
            lambda net, x: net.node(
                "Scatter",
                x,
                net.constant(np.array([[[[2, 1]]]]), np.int64),
                net.constant([[[[7.0, 8]]]]),
                axis=2,
            )
        ],
    ),
    "Slice": (
        range(7, 10),
        [
            lambda net, x: net.node("Slice", x, starts=[1, -3], ends=[3, 9000], axes=[1, 2]),
            lambda net, x: net.node("Slice", x, starts=[1, 1], ends=[2, -1]),
        ],
    ),
    "Softmax": (
        range(7, 13),
        [
            lambda net, x: net.node("Softmax", x),
            lambda net, x: net.node("Softmax", x, axis=3),
            lambda net, x: net.node("Softmax", x, axis=0),
            lambda net, x: net.node("Softmax", net.node("Relu", x), axis=2),
        ],
    ),
    "Split": (
        range(7, 13),
        [lambda net, x: split(net, x, axis=2, split=[2, 3]), lambda net, x: split(net, x, axis=3)],
    ),
    "Squeeze": (
        range(7, 13),
        [lambda net, x: net.node("Squeeze", net.node("GlobalMaxPool", x), axes=[2, 3])],
    ),
    "TopK": (range(7, 10), [lambda net, x: top_k(net, x, k=2, axis=1)]),
    "Unsqueeze": (range(7, 13), [lambda net, x: net.node("Unsqueeze", x, axes=[0, 3])]),
    "Upsample": (
        range(7, 10),
        [
            lambda net, x: upsample(net, x, [1, 1, 2, 3]),
            lambda net, x: upsample(net, x, [1, 1, 2, 3], mode="linear"),
            lambda net, x: upsample(net, x, [1, 1, 1.7, 1.2], mode="nearest"),
        ],
    ),
}


def split(net: Builder, x: str, **attributes: Any) -> str:
    net.nodes.append(helper.make_node("Split", [x], ["low", "high"], **attributes))
    return net.node("Concat", "high", "low", axis=attributes["axis"])


def top_k(net: Builder, x: str, **attributes: Any) -> str:
    net.nodes.append(helper.make_node("TopK", [x], ["values", "places"], **attributes))
    return net.node("Mul", "values", net.node("Cast", "places", to=TensorProto.FLOAT))


def upsample(net: Builder, x: str, scales: list[float], **attributes: Any) -> str:
    if net.opset < 9:
        return net.node("Upsample", x, scales=[float(scale) for scale in scales], **attributes)
    return net.node("Upsample", x, net.constant(scales), **attributes)


def declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """With types for outputs of which old operators do not tell the shape, as exporters write them."""
    for info in model.graph.output:
        if not info.type.tensor_type.HasField("shape"):
            shape = [f"d{axis}" for axis in range(len(IMAGE))]
            info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize("operator", CHANGED)
def test_an_old_operator_gives_the_same_in_its_new_form(operator: str) -> None:
    opsets, samples = OLD[operator]
    for opset in opsets:
        for sample in samples:
            net = Builder(opset=opset)
            model = declared(net.model(sample(net, net.input("x", IMAGE))))
            assert operator in operators(model)
            assert opset_of(same(model)) == OLDEST


def signature(operator: str, opset: int) -> tuple[list[str], set[str], bool] | None:
    """Inputs, attributes that must be given, and whether the opset still has the operator."""
    try:
        schema = defs.get_schema(operator, opset)
    except defs.SchemaError:
        return None
    required = {name for name, held in schema.attributes.items() if held.required}
    return [i.name for i in schema.inputs], required, schema.deprecated


def defaults(operator: str, opset: int) -> dict[str, str]:
    schema = defs.get_schema(operator, opset)
    return {name: str(held.default_value) for name, held in schema.attributes.items()}


@pytest.mark.parametrize(("old", "new"), [*((v, OLDEST) for v in range(7, OLDEST)), (22, NEWEST)])
def test_operators_outside_the_table_say_the_same_in_both_opsets(old: int, new: int) -> None:
    if old > defs.onnx_opset_version():
        pytest.skip(f"this onnx does not have opset {old}")
    for operator in sorted(OPERATORS):
        before = signature(operator, old)
        if before is None or (operator in CHANGED and old < CHANGED[operator][0]):
            continue
        after = signature(operator, new)
        assert after is not None, operator
        assert (before[0], before[2]) == (after[0], after[2]), operator
        assert before[1] >= after[1], operator
        assert defaults(operator, old).items() <= defaults(operator, new).items(), operator


@pytest.mark.parametrize("operator", CHANGED)
def test_the_table_names_the_opset_of_the_new_form(operator: str) -> None:
    until, _ = CHANGED[operator]
    assert defs.get_schema(operator, until).since_version == until
    assert max(OLD[operator][0]) == until - 1


def test_opsets_that_are_kept_are_those_of_host_sections() -> None:
    assert OLDEST in OPSETS
    assert OPSETS[-1] == NEWEST
    for opset in (OLDEST, 17, NEWEST):
        net = Builder(opset=opset)
        model = net.model(net.conv(net.input("x", [1, 3, 6, 6]), 3, 4))
        assert opset_of(same(model)) == opset


def test_opset_22_becomes_21() -> None:
    if defs.onnx_opset_version() < 22:
        pytest.skip("this onnx does not have opset 22")
    net = Builder(opset=22)
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4)
    x = net.node("MaxPool", net.node("HardSwish", x), kernel_shape=[2, 2], ceil_mode=1)
    model = net.model(net.node("Dropout", net.node("GlobalAveragePool", x)), ir_version=10)
    assert opset_of(same(model)) == 21


@pytest.mark.parametrize(
    "name",
    ["densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"],
)
def test_a_topology_of_opset_9_with_random_weights_gives_the_same_in_opset_13(name: str) -> None:
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [info for info in model.graph.input if info.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(given)
    model.ir_version = 4  # constants need not be inputs, so onnxruntime asks for images alone
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = shapes[node.input[0]]
            many = len(shape) > 1
            weights = (
                rng.normal(0, np.prod(shape[1:]) ** -0.5, shape) if many else rng.random(shape)
            )
            weights = weights.astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
    others = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    del model.graph.node[:]
    model.graph.node.extend(others)
    same(model)


@pytest.mark.parametrize("name", sorted(path.stem for path in LIGHT.glob("*.onnx")))
def test_a_topology_as_it_is_becomes_a_graph_of_opset_13(name: str) -> None:
    graph = import_onnx((LIGHT / f"{name}.onnx").read_bytes(), CompilerOptions())
    assert graph.model.opset == OLDEST
    (output,) = graph.outputs
    assert graph.values[output].shape[:2] == (1, 1000)


def of_opset(opset: int) -> onnx.ModelProto:
    net = Builder(opset=opset)
    return net.model(net.node("Relu", net.input("x", IMAGE)))


def of_one_node(opset: int, operator: str, *constants: Any, **attributes: Any) -> onnx.ModelProto:
    net = Builder(opset=opset)
    operands = [net.constant(data) for data in constants]
    x = net.input("x", IMAGE)
    return declared(net.model(net.node(operator, x, *operands, name="old", **attributes)))


def with_mask() -> onnx.ModelProto:
    net = Builder(opset=7)
    net.nodes.append(helper.make_node("Dropout", [net.input("x", IMAGE)], ["kept", "mask"], "old"))
    return declared(net.model(net.node("Add", "kept", "mask")))


def with_training() -> onnx.ModelProto:
    net = Builder(opset=13)
    x, yes = net.input("x", IMAGE), net.constant(True, np.bool_)
    return net.model(net.node("Dropout", x, "", yes, name="old"))


def with_scales_from_outside() -> onnx.ModelProto:
    net = Builder(opset=10)
    x, scales = net.input("x", IMAGE), net.input("scales", [4])
    return net.model(net.node("Resize", x, scales, name="old"))


FOUR = (np.ones(3),) * 4
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "too old": (
        lambda: of_opset(6),
        "the model is of opset 6; export it with an opset from 7 to 22",
    ),
    "training": (
        lambda: of_one_node(14, "BatchNormalization", *FOUR, training_mode=1),
        ("node 'old' (BatchNormalization): it is in training mode; export the model for inference"),
    ),
    "dropout in training": (
        with_training,
        "node 'old' (Dropout): it is in training mode; export the model for inference",
    ),
    "statistics per value": (
        lambda: of_one_node(7, "BatchNormalization", *FOUR, spatial=0),
        (
            "node 'old' (BatchNormalization): its statistics are not per channel (spatial is 0); "
            "export the model anew"
        ),
    ),
    "mask": (
        with_mask,
        "node 'old' (Dropout): its mask is read; take what reads it out of the model",
    ),
    "shrinking": (
        lambda: of_one_node(9, "Upsample", [1, 1, 0.5, 2]),
        (
            "node 'old' (Upsample): it shrinks, by the factors [1.0, 1.0, 0.5, 2.0]; "
            "export the model with opset 11 or later"
        ),
    ),
    "scales that vary": (
        with_scales_from_outside,
        "node 'old' (Resize): its scales are not constant; make the scales a constant",
    ),
    "unknown mode": (
        lambda: of_one_node(9, "Upsample", [1, 1, 2, 2], mode="cubic"),
        "node 'old' (Upsample): its mode is 'cubic'; use nearest or linear",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_equal_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InvalidModel) as caught:
        import_onnx(build().SerializeToString(), CompilerOptions())
    assert str(caught.value) == message


def test_two_versions_of_the_onnx_operators_are_refused() -> None:
    model = of_opset(13)
    model.opset_import.add(domain="ai.onnx", version=11)
    with pytest.raises(InvalidModel, match="the model is of opset 11 and 13; export it"):
        settled(model)


def test_a_mask_that_nothing_reads_goes() -> None:
    net = Builder(opset=7)
    net.nodes.append(helper.make_node("Dropout", [net.input("x", IMAGE)], ["kept", "mask"]))
    converted = same(net.model(net.node("Relu", "kept")))
    assert list(converted.graph.node[0].output) == ["kept"]


def test_dropout_does_nothing_in_any_opset() -> None:
    for opset in (7, 12, 13, 21):
        net = Builder(opset=opset)
        x = net.input("x", IMAGE)
        no = ["", net.constant(False, np.bool_)] if opset > 12 else []
        model = net.model(net.node("Dropout", x, *no))
        assert operators(same(model)) == ["Identity"]


def test_names_made_up_meet_no_name_of_the_model() -> None:
    net = Builder(opset=9)
    x = net.node("Clip", net.input("x", IMAGE), result="v", min=0.0)
    model = net.model(net.node("Relu", x, result="v/min"))
    assert [tensor.name for tensor in same(model).graph.initializer] == ["v/min'", "v/max"]
