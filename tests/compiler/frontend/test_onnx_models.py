"""What the ONNX frontend refuses, by name, and how it brings operators into one form."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.options import CompilerOptions
from support import models
from support.models import Net


def net(shape: tuple[int, ...] = (1, 3, 8, 8), opset: int = 13) -> Net:
    return Net(shape, opset=opset)


def imported(model: onnx.ModelProto, batch: int = 1) -> Dfg:
    return import_onnx(model.SerializeToString(), CompilerOptions(batch_size=batch))


def small() -> onnx.ModelProto:
    n = net()
    return n.model(n.node("Relu", "relu", ["image"]))


def dynamic() -> onnx.ModelProto:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def of_custom_domain() -> onnx.ModelProto:
    model = small()
    model.graph.node[0].domain = "com.acme"
    return model


def unknown_operator() -> onnx.ModelProto:
    model = small()
    model.graph.node[0].op_type = "Frobnicate"
    return model


def with_subgraph() -> onnx.ModelProto:
    model = small()
    body = helper.make_graph(
        [], "body", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1])]
    )
    node = helper.make_node("If", ["image"], ["r"], "choice", then_branch=body, else_branch=body)
    model.graph.node.append(node)
    return model


def with_external_data() -> onnx.ModelProto:
    n = net()
    n.conv("c", "image", 3, 4, 3)
    model = n.model("c:0")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    return model


def of_doubles() -> onnx.ModelProto:
    n = net()
    return n.model(n.node("Cast", "wide", ["image"], to=TensorProto.DOUBLE))


def with_values_for_shape() -> onnx.ModelProto:
    n = net()
    return n.model(n.node("NonZero", "where", ["image"]))


def that_does_not_fit() -> onnx.ModelProto:
    model = models.residual_cnn()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    return model


def with_wrong_sum() -> onnx.ModelProto:
    model = small()
    model.graph.node[0].op_type = "Add"
    model.graph.node[0].input.append("k")
    model.graph.initializer.append(helper.make_tensor("k", TensorProto.FLOAT, [5], [0.0] * 5))
    return model


def with_passed_input() -> onnx.ModelProto:
    model = small()
    model.graph.output.append(model.graph.input[0])
    return model


def without_outputs() -> onnx.ModelProto:
    model = small()
    del model.graph.output[:]
    return model


def with_zero_scale() -> onnx.ModelProto:
    model = models.quantized(models.residual_cnn())
    scale = next(t for t in model.graph.initializer if t.name == "image.scale")
    scale.raw_data = bytes(4)
    return model


def with_a_window_in_the_padding() -> onnx.ModelProto:
    n = net((1, 3, 5, 7))
    window = {"kernel_shape": [4, 3], "pads": [0, 0, 3, 2], "strides": [2, 4]}
    return n.model(n.node("MaxPool", "pool", ["image"], ceil_mode=1, **window))


def with_computed_shape() -> onnx.ModelProto:
    n = net()
    real = n.node("Cast", "real", [n.node("Shape", "shape", ["image"])], to=TensorProto.FLOAT)
    whole = n.node("Cast", "whole", [real], to=TensorProto.INT64)
    return n.model(n.node("Reshape", "same", [n.node("Neg", "neg", ["image"]), whole]))


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "dynamic dimension": (
        dynamic,
        (
            "the static shape of tensor 'image' contains an unsupported dimension value: N; "
            "give every input a static shape, e.g. with furiosa.optimizer.optimize_model"
        ),
    ),
    "computed shape": (
        with_computed_shape,
        (
            "node 'same' (Reshape): the shape of 'same:0' is unknown; let "
            "furiosa.optimizer.optimize_model compute the shapes of the model"
        ),
    ),
    "unknown domain": (
        of_custom_domain,
        "node 'relu' (Relu): its domain is 'com.acme'; use operators of the ONNX domain only",
    ),
    "unknown operator": (
        unknown_operator,
        "node 'relu' (Frobnicate): opset 13 has no such operator",
    ),
    "subgraph": (with_subgraph, "node 'choice' (If): attribute 'else_branch' is a subgraph"),
    "external data": (
        with_external_data,
        (
            "tensor 'c.weight' is stored in another file; save the model with its tensors inside, as "
            "furiosa.tools.compiler.models.read_model gives it"
        ),
    ),
    "double": (
        of_doubles,
        "node 'wide' (Cast): 'wide:0' has element type DOUBLE; use one of float32",
    ),
    "shape that depends on values": (
        with_values_for_shape,
        (
            "node 'where' (NonZero): this operator is not supported; take it out of the model, or "
            "compute it before or after the model"
        ),
    ),
    "channels that clash": (
        that_does_not_fit,
        "node 'stem' (Conv): operands [1, 4, 12, 10], [8, 3, 3, 3], [8] do not fit 1 groups",
    ),
    "shapes that clash": (
        with_wrong_sum,
        "node 'relu' (Add): its shapes do not fit together: Incompatible dimensions; give",
    ),
    "input as output": (with_passed_input, "output 'image' is no operator's result"),
    "no output": (without_outputs, "it has no outputs"),
    "window in the padding": (
        with_a_window_in_the_padding,
        (
            "node 'pool' (MaxPool): a window of its result [1, 3, 3, 3] would lie in the padding at "
            "the end, which ONNX counts and onnxruntime leaves out; give it ceil_mode 0"
        ),
    ),
    "zero scale": (with_zero_scale, "node 'image.q' (QuantizeLinear): its scale is 0.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_model_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InvalidModel) as caught:
        imported(build())
    assert str(caught.value).startswith(message)
    assert caught.value.code == 5


def test_shape_operators_become_reshape_and_dropout_nothing() -> None:
    n = net()
    axes = n.constant("axes", np.array([0], np.int64))
    x = n.node("Unsqueeze", "un", [n.node("Flatten", "flat", ["image"]), axes])
    x = n.node("Dropout", "drop", [n.node("Squeeze", "sq", [x, axes])])
    graph = imported(n.model(x))
    assert [node.op for node in graph.nodes] == ["Reshape", "Reshape", "Reshape", "Identity"]
    assert graph.values["un:0"].shape == (1, 1, 192)


@pytest.mark.parametrize(
    ("auto_pad", "pads"),
    [("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1)), ("VALID", (0, 0, 0, 0))],
)
def test_windows_are_written_out(auto_pad: str, pads: tuple[int, ...]) -> None:
    n = net((1, 3, 8, 7))
    model = n.model(n.conv("c", "image", 3, 4, 3, auto_pad=auto_pad, pads=None, strides=[2, 2]))
    (node,) = imported(model).nodes
    assert dict(node.attributes) == {
        "group": 1,
        "kernel_shape": (3, 3),
        "strides": (2, 2),
        "dilations": (1, 1),
        "pads": pads,
    }


def test_quantisation_moves_onto_values() -> None:
    graph = imported(models.quantized(models.residual_cnn()))
    quantise = graph.nodes[0]
    assert (quantise.op, quantise.inputs) == ("Quantize", ("image",))
    stored = graph.values[quantise.outputs[0]]
    assert stored.whole is not None
    assert stored.whole.scale == pytest.approx(2 / 255, rel=0.02)
    weights = graph.values["stem.weight.q"].quantization
    assert weights is not None
    assert (weights.axis, len(weights.scales)) == (0, 8)


def test_nodes_without_a_name_get_one() -> None:
    model = models.residual_cnn()
    for node in model.graph.node[:2]:
        node.name = ""
    model.graph.node[3].name = model.graph.node[2].name
    names = [node.name for node in imported(model).nodes]
    assert names[:4] == ["Conv_0", "Relu_1", "deep", "Relu_3"]


def test_made_up_names_do_not_meet_given_ones() -> None:
    model = models.residual_cnn()
    model.graph.node[0].name, model.graph.node[1].name = "Relu_1", ""
    assert [node.name for node in imported(model).nodes[:2]] == ["Relu_1", "Relu_1'"]


@pytest.mark.parametrize("field", ["type", "shape"])
def test_types_of_outputs_need_not_be_declared(field: str) -> None:
    model = small()
    declared = model.graph.output[0]
    (declared if field == "type" else declared.type.tensor_type).ClearField(field)
    for batch in (1, 4):
        assert imported(model, batch).values["relu:0"].shape == (batch, 3, 8, 8)
