"""Whatever a model file holds, the frontend gives a graph or an error of the compiler's own."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from furiosa.compiler import InvalidFormat, InvalidModel, compile
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.options import CompilerOptions
from support.onnx_models import Builder


def chain(*operators: str) -> onnx.ModelProto:
    net = Builder()
    x = net.input("x", [1, 3, 4, 4])
    for operator in operators:
        x = net.node(operator, x, name=operator.lower())
    return net.model(x)


GOOD = chain("Relu", "Softmax", "Sigmoid").SerializeToString()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "this is not an ONNX model: it has no graph", id="empty"),
        pytest.param(b"\x1c\0\0\0TFL3 and more", "this is a TensorFlow Lite model", id="tflite"),
        pytest.param(b"ENF1 is not protobuf", "this is not an ONNX model", id="noise"),
        pytest.param(GOOD[:-3], "this is not an ONNX model", id="cut off"),
        pytest.param(b"\x3a\x80" * 300, "this is not an ONNX model", id="noise of fields"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidFormat) as caught:
        compile(data)
    assert str(caught.value).startswith(message)
    assert caught.value.code == 4


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidFormat, match="a name in this ONNX model is not UTF-8"):
        compile(GOOD.replace(b"relu", b"\xff\xfe\xfd\xfc"))


def wrapped(field: int, held: bytes) -> bytes:
    """A message whose one field is the message `held`."""
    size, length = len(held), b""
    while size > 127:
        length += bytes([size % 128 + 128])
        size //= 128
    return bytes([field << 3 | 2]) + length + bytes([size]) + held


def test_nesting_has_an_end() -> None:
    graph = b""
    for _ in range(2000):
        graph = wrapped(1, wrapped(5, wrapped(6, graph)))  # node, attribute, g
    with pytest.raises(InvalidFormat, match="this is not an ONNX model, or only a part of one"):
        compile(b"\x08\x08" + wrapped(7, graph))


def cycle(model: onnx.ModelProto) -> None:
    first, second = model.graph.node[:2]
    first.input[0] = second.output[0]


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def makes_an_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = "x"


def reads_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.node[0].input.append("x")


def same_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


def same_initialisers(model: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("k", TensorProto.FLOAT, [1], [1.0])
    model.graph.initializer.extend([tensor, tensor])


def same_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def nameless_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("", TensorProto.FLOAT, [1]))


def huge(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 1 << 40


def many_dimensions(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim.extend(
        [onnx.TensorShapeProto.Dimension(dim_value=1)] * 9
    )


def of_zero(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0


def negative(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -3


def of_strings(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def of_unknown_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


def of_a_sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1])
    )


def axis_too_far(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("axis", -5))


def axis_of_text(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("axis", "1"))


def axis_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.extend([helper.make_attribute("axis", 1)] * 2)


def unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("old_axis", 1))


def attribute_of_no_kind(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.add(name="axis", type=AttributeProto.TYPE_PROTO)


def reference(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.add(name="axis", type=AttributeProto.INT, ref_attr_name="a")


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d")


def weights(**changes: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = helper.make_tensor("k", TensorProto.FLOAT, [2], [1.0, 2.0])
        for name, held in changes.items():
            if name == "dims":
                tensor.dims[:] = held  # type: ignore[call-overload]  # a list of int
            else:
                setattr(tensor, name, held)
        model.graph.initializer.append(tensor)

    return change


def output_below_zero(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -2


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "cycle": (cycle, "node 'relu' (Relu): it reads 'v1', which no earlier node makes; export"),
    "made twice": (
        made_twice,
        "node 'softmax' (Softmax): its result 'v0' is there already; export",
    ),
    "makes an input": (
        makes_an_input,
        "node 'relu' (Relu): its result 'x' is there already; export",
    ),
    "reads nothing": (
        reads_nothing,
        "node 'relu' (Relu): it reads 'nowhere', which no earlier node",
    ),
    "two inputs": (two_inputs, "node 'relu' (Relu): the ONNX checker refuses it: Node"),
    "same inputs": (same_inputs, "input 'x' is declared twice; export it anew"),
    "same initialisers": (same_initialisers, "initialiser 'k' is declared twice; export it anew"),
    "same outputs": (same_outputs, "output 'v2' is declared twice; export it anew"),
    "nameless input": (nameless_input, "an input has no name; export it anew"),
    "huge": (huge, "tensor 'x' has the shape [1099511627776, 1099511627776, 1099511627776, 10995"),
    "many dimensions": (
        many_dimensions,
        "tensor 'x' has the shape [1, 3, 4, 4, 1, 1, 1, 1, 1]; use",
    ),
    "zero": (of_zero, "the static shape of tensor 'x' contains an unsupported dimension value: 0"),
    "negative": (
        negative,
        "the static shape of tensor 'x' contains an unsupported dimension value: -3",
    ),
    "strings": (of_strings, "'x' has element type STRING; use one of float32"),
    "unknown type": (of_unknown_type, "'x' has element type 99; use one of float32"),
    "sequence": (of_a_sequence, "'x' is not a tensor; use tensors only"),
    "axis too far": (
        axis_too_far,
        "node 'softmax' (Softmax): its shapes do not fit together: 'axis'",
    ),
    "axis of text": (
        axis_of_text,
        "node 'softmax' (Softmax): the ONNX checker refuses it: Mismatched",
    ),
    "axis twice": (axis_twice, "node 'softmax' (Softmax): attribute 'axis' is given twice; export"),
    "unknown attribute": (
        unknown_attribute,
        "node 'softmax' (Softmax): the ONNX checker refuses it",
    ),
    "attribute of no kind": (
        attribute_of_no_kind,
        "node 'softmax' (Softmax): attribute 'axis' is of kind TYPE_PROTO; use operators with plain",
    ),
    "reference": (
        reference,
        "node 'softmax' (Softmax): attribute 'axis' is of kind a reference; use operators with plain",
    ),
    "sparse": (sparse, "it has sparse initialisers; make them dense"),
    "function": (function, "it defines the function 'f'; inline it with onnx.inliner"),
    "data too short": (weights(dims=[3]), "the ONNX checker refuses it: "),
    "data of a large tensor too short": (weights(dims=[300, 300]), "tensor 'k' cannot be read: "),
    "dimensions below zero": (weights(dims=[-1, -2]), "tensor 'k' has the dimension -2"),
    "large dimensions below zero": (
        weights(dims=[-1, -(1 << 20)]),
        "tensor 'k' has the dimension -1048576; export the model anew",
    ),
    "output below zero": (output_below_zero, "output 'v2' has the dimension -2; export it anew"),
    "unknown type of weights": (weights(data_type=77), "the ONNX checker refuses it: "),
    "doubles": (weights(data_type=TensorProto.DOUBLE), "the ONNX checker refuses it: "),
    "no opset": (no_opset, "the model is of opset none; export it with an opset from 7 to 22"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_is_refused_by_name(name: str) -> None:
    change, message = BROKEN[name]
    model = chain("Relu", "Softmax", "Sigmoid")
    change(model)
    with pytest.raises(InvalidModel) as caught:
        import_onnx(model.SerializeToString(), CompilerOptions())
    assert str(caught.value).startswith(message)


def sliced(before: Callable[[Builder, str], str], opset: int = 13) -> bytes:
    """Slice behind something with negative dimensions, which would abort the process in onnx."""
    net = Builder(opset=opset)
    x = before(net, net.input("x", [1, 3, 4, 4]))
    if opset < 10:
        x = net.node("Slice", x, starts=[0], ends=[1], axes=[2])
    else:
        bounds = [net.constant([number], np.int64) for number in (0, 1, 2)]
        x = net.node("Slice", x, *bounds)
    graph = helper.make_graph(net.nodes, "g", net.inputs, [], net.constants)
    graph.output.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, ["a", "b", "c", "d"]))
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


BELOW_ZERO: dict[str, Callable[[Builder, str], str]] = {
    "Conv": lambda net, x: net.conv(x, 3, 3, 9, pads=[0] * 4),
    "MaxPool": lambda net, x: net.node("MaxPool", x, kernel_shape=[9, 9]),
    "ConvTranspose": lambda net, x: net.node(
        "ConvTranspose", x, net.random(3, 3, 1, 1), pads=[9] * 4
    ),
    "Pad": lambda net, x: net.node("Pad", x, net.constant([0, 0, -9, 0] * 2, np.int64)),
}


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("operator", BELOW_ZERO)
def test_a_slice_of_a_negative_dimension_is_refused(operator: str, opset: int) -> None:
    if operator == "Pad" and opset < 11:
        data = sliced(lambda net, x: net.node("Pad", x, pads=[0, 0, -9, 0] * 2), opset)
    else:
        data = sliced(BELOW_ZERO[operator], opset)
    with pytest.raises(
        InvalidModel, match=rf"\({operator}\): its result '.*' has the shape \[1, 3, -"
    ):
        import_onnx(data, CompilerOptions())


def test_a_slice_of_what_a_model_claims_to_be_negative_is_fine() -> None:
    model = onnx.ModelProto.FromString(sliced(lambda net, x: net.node("Relu", x)))
    info = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1, 3, -2, 4])
    model.graph.value_info.append(info)
    graph = import_onnx(model.SerializeToString(), CompilerOptions())
    assert graph.values[graph.outputs[0]].shape == (1, 3, 1, 4)


def test_inference_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furiosa.compiler.frontend.shapes._MAX_INFERRED", 1)
    data = sliced(lambda net, x: net.node("MaxPool", x, kernel_shape=[2, 2]))
    with pytest.raises(InvalidModel, match="it has 1 times a Slice behind a convolution, pooling"):
        import_onnx(data, CompilerOptions())


def test_a_model_of_more_nodes_than_are_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furiosa.compiler.frontend.model.MAX_NODES", 2)
    with pytest.raises(InvalidModel, match="it has 3 nodes; up to 2 are taken"):
        import_onnx(GOOD, CompilerOptions())


def test_a_model_of_more_bytes_than_are_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furiosa.compiler.frontend.model.MAX_MODEL_BYTES", 10)
    with pytest.raises(InvalidFormat, match="models of up to 10 bytes are taken"):
        import_onnx(GOOD, CompilerOptions())
