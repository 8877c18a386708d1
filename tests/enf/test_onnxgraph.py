"""Host graphs: what the builder writes passes the check, and what might do harm does not."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import Buffer, Space
from furiosa.enf.limits import Limits
from furiosa.enf.onnxgraph import GraphBuilder, check_host_graph

F32 = DType.FLOAT32


def buffer(shape: tuple[int, ...], dtype: DType = F32) -> Buffer:
    return Buffer("b", dtype, shape, Space.DRAM, 0)


X, Y = buffer((2, 4)), buffer((2, 3))


def a_graph() -> bytes:
    """x [2, 4] times ones [4, 3], then softmax, to y [2, 3]."""
    graph = GraphBuilder("g")
    graph.input("x", F32, (2, 4))
    (product,) = graph.node("MatMul", ["x", graph.constant(np.ones((4, 3), np.float32))])
    graph.node("Softmax", [product], ["y"], axis=1)
    graph.output("y", F32, (2, 3))
    return graph.build()


def refuse(data: bytes, text: str, limits: Limits | None = None) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)) as caught:
        check_host_graph(data, [X], [Y], *((limits,) if limits else ()))
    assert caught.value.rule == "host-graph"


def test_the_builder_makes_a_graph_that_passes() -> None:
    check_host_graph(a_graph(), [X], [Y])


def test_the_builder_is_deterministic() -> None:
    assert a_graph() == a_graph()


def test_the_builder_computes_what_it_was_told() -> None:
    from onnx.reference import ReferenceEvaluator

    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    results = ReferenceEvaluator(onnx.load_from_string(a_graph())).run(None, {"x": x})
    np.testing.assert_allclose(np.array(results), np.full((1, 2, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "float32", "bool"])
def test_large_constants_are_like_small_ones(dtype: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
        for shape in ((2, 3), (40, 50, 3), (7,), (1 << 16,), (3 << 14, 8))
    ]
    arrays.append(arrays[2].reshape(1, 7).repeat(6000, 0).T)  # not in C order
    graph = GraphBuilder("g")
    names = [graph.constant(array) for array in arrays]
    graph.node("Identity", [names[1]], ["y"])
    model = onnx.load_from_string(graph.build())
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(found) == set(names)
    for name, array in zip(names, arrays, strict=True):
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    assert onnx.load_from_string(model.SerializeToString(deterministic=True)) == model


def test_a_graph_with_large_constants_is_checked_as_a_whole() -> None:
    graph = GraphBuilder("g")
    graph.input("x", F32, (2, 4))
    product = graph.node("MatMul", ["x", graph.constant(np.ones((4, 4096), np.float32))])
    graph.node("MatMul", [*product, graph.constant(np.ones((4096, 3), np.float32))], ["y"])
    graph.output("y", F32, (2, 3))
    check_host_graph(graph.build(), [X], [Y])
    refuse(graph.build()[:-1], "cannot be parsed")


def test_the_builder_makes_up_names_that_nobody_chose() -> None:
    graph = GraphBuilder("g")
    graph.input("Relu_1", F32, (1,))
    assert graph.node("Relu", ["Relu_1"]) == ("Relu_2",)
    assert graph.node("Split", ["Relu_2"], 2) == ("Split_2", "Split_3")
    assert graph.node("Dropout", ["Split_2"], ["kept", ""]) == ("kept", "")


def test_the_builder_refuses_a_name_twice() -> None:
    graph = GraphBuilder("g")
    graph.input("x", F32, (1,))
    with pytest.raises(ValueError, match="the graph 'g' has two values called 'x'"):
        graph.node("Relu", ["x"], ["x"])


def test_opset_and_domains_are_declared() -> None:
    graph = GraphBuilder("g", opset=13)
    graph.node("Thing", [], ["y"], domain="com.example", size=3)
    graph.output("y", DType.INT64, ())
    model = onnx.load_from_string(graph.build())
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13), ("com.example", 1)]
    assert (model.ir_version, model.graph.node[0].attribute[0].i) == (8, 3)


def mutated(change: Callable[[Any], object]) -> bytes:
    model = onnx.load_from_string(a_graph())
    change(model)
    return model.SerializeToString()


def node(op: str, **attributes: Any) -> Callable[[Any], object]:
    """Replaces the softmax."""

    def change(model: Any) -> None:
        domain = attributes.pop("domain", "")
        inputs = [model.graph.node[0].output[0], *attributes.pop("more", [])]
        new = helper.make_node(op, inputs, ["y"], domain=domain, **attributes)
        model.graph.node[1].CopyFrom(new)

    return change


def weight(**fields: Any) -> Callable[[Any], object]:
    """Changes the initialiser."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(tensor, name)[:] = value
            else:
                setattr(tensor, name, value)

    return change


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL


def typed_values(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data[:] = [1.0] * 12


BRANCH = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("b", 1, [1])])
SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
    helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
    [4],
)
FUNCTION = helper.make_function("d", "f", ["a"], ["b"], [], [helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: setattr(m, "ir_version", 99), "the IR version is 99"),
        (lambda m: m.ClearField("opset_import"), "the operator sets are []"),
        (lambda m: setattr(m.opset_import[0], "version", 99), "operator sets are [('', 99)]"),
        (lambda m: m.opset_import.add(domain="com.microsoft", version=1), "('com.microsoft', 1)"),
        (lambda m: m.functions.append(FUNCTION), "the graph has functions"),
        (lambda m: m.training_info.add(), "the graph has training information"),
        (lambda m: m.graph.sparse_initializer.append(SPARSE), "has sparse initialisers"),
        (lambda m: m.graph.quantization_annotation.add(), "has quantisation annotations"),
        (lambda m: m.graph.value_info.add(name="v"), "the graph has declared inner shapes"),
        (node("If", then_branch=BRANCH, else_branch=BRANCH), "'If' is not one of the operators"),
        (node("Loop", body=BRANCH), "'Loop' is not one of the operators"),
        (node("Scan", body=BRANCH, num_scan_inputs=1), "'Scan' is not one of the operators"),
        (node("RandomNormalLike"), "'RandomNormalLike' is not one of the operators"),
        (node("StringNormalizer"), "'StringNormalizer' is not one of the operators"),
        (node("SequenceConstruct"), "'SequenceConstruct' is not one of the operators"),
        (node("NonZero"), "'NonZero' is not one of the operators"),
        (node("Relu", domain="com.microsoft"), "'Relu' is of the domain 'com.microsoft'"),
        (node("Relu", g=BRANCH), "attribute 'g' is no number, string or tensor"),
        (node("Constant", sparse_value=SPARSE), "attribute 'sparse_value' is no number"),
        (
            node(
                "Constant", value=onnx.TensorProto(data_type=TensorProto.STRING, string_data=[b"a"])
            ),
            "attribute 'value': data type 8 is not a number",
        ),
        (external, "the values are not in the graph"),
        (typed_values, "there are 0 raw bytes for 48 of shape [4, 3]"),
        (weight(raw_data=b"\0" * 44), "there are 44 raw bytes for 48"),
        (weight(dims=[2**31 + 1]), "the shape starts with [2147483649]"),
        (weight(dims=[-1]), "the shape starts with [-1]"),
        (weight(dims=[1] * 9), "the shape starts with [1, 1, 1, 1, 1, 1, 1, 1, 1]"),
        (weight(float_data=[1.0]), "the values are not raw bytes"),
        (weight(data_type=TensorProto.STRING), "data type 8 is not a number"),
        (weight(name="x"), "two inputs or initialisers share a name"),
        (lambda m: m.graph.input.add(name="z"), "the graph has 2 inputs, expected 1"),
        (lambda m: m.graph.output.pop(), "the graph has 0 outputs, expected 1"),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "N"),
            "input 'x' is type 1 of shape ['?', 4], the buffer type 1 of shape [2, 4]",
        ),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
            "input 'x' is type 11 of shape [2, 4]",
        ),
        (
            lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[0], "dim_value", 5),
            "output 'y' is type 1 of shape [5, 3]",
        ),
        (lambda m: m.graph.input[0].ClearField("type"), "input 'x' is type 0 of shape []"),
        (node("Transpose"), "output 'y' as inferred is type 1 of shape [3, 2]"),
        (node("Concat", axis=9), "onnx refuses it"),
        (node("Relu", more=["nowhere"]), "onnx refuses it"),
        (node("Cast", to=TensorProto.STRING), "output 'y' as inferred is type 8"),
    ],
)
def test_a_graph_that_might_do_harm_is_refused(change: Callable[[Any], object], text: str) -> None:
    refuse(mutated(change), text)


def test_shapes_must_be_known_beforehand() -> None:
    """What a Reshape makes of a shape that arrives at run time is anybody's guess."""
    graph = GraphBuilder("g")
    graph.input("x", F32, (2, 4))
    graph.input("shape", DType.INT64, (2,))
    (middle,) = graph.node("Reshape", ["x", "shape"])
    graph.node("Reshape", [middle, graph.constant(np.array([8]))], ["y"])
    graph.output("y", F32, (8,))
    with pytest.raises(InvalidProgram, match="is not known beforehand"):
        check_host_graph(graph.build(), [X, buffer((2,), DType.INT64)], [buffer((8,))])


def test_inner_values_are_bounded() -> None:
    """A small graph must not ask for a terabyte on the way."""
    graph = GraphBuilder("g")
    graph.input("x", F32, (2, 4))
    (huge,) = graph.node("Expand", ["x", graph.constant(np.array([1 << 37, 2, 4]))])
    graph.node("ReduceMax", [huge], ["y"], axes=[0], keepdims=0)
    graph.output("y", F32, (2, 4))
    with pytest.raises(InvalidProgram, match=r"the size of 'Expand_\d' in bytes is 4398046511104"):
        check_host_graph(graph.build(), [X], [X])


def test_shapes_that_follow_from_constants_are_known() -> None:
    graph = GraphBuilder("g")
    graph.input("x", F32, (2, 4))
    (shape,) = graph.node("Shape", ["x"])
    (rows,) = graph.node("Gather", [shape, graph.constant(np.array([0]))])
    (target,) = graph.node("Concat", [rows, graph.constant(np.array([2, 2]))], axis=0)
    graph.node("Reshape", ["x", target], ["y"])
    graph.output("y", F32, (2, 2, 2))
    check_host_graph(graph.build(), [X], [buffer((2, 2, 2))])


def test_size_node_and_field_limits() -> None:
    data = a_graph()
    refuse(data, f"the size of the graph is {len(data)}, the limit is 10", Limits(graph_bytes=10))
    refuse(data, "the graph has 2 nodes, the limit is 1", Limits(graph_nodes=1))
    refuse(data, "more than 20 fields", Limits(graph_fields=20))


def test_bytes_that_are_no_onnx_are_refused() -> None:
    refuse(b"", "the IR version is 0")
    refuse(b"\xff" * 30, "the graph cannot be parsed")
    refuse(a_graph() + b"\xaa\x06\x00", "the graph cannot be parsed: it has fields")


def test_damaged_graphs_never_raise_anything_else() -> None:
    data = a_graph()
    rng = np.random.default_rng(0)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            changed[rng.integers(len(data))] = rng.integers(256)
        with suppress(InvalidProgram):
            check_host_graph(bytes(changed), [X], [Y])


def test_initialisers_of_every_number_type_pass() -> None:
    for dtype in DType:
        graph = GraphBuilder("g")
        graph.input("x", F32, (2, 4))
        zero = graph.constant(np.zeros((1,), dtype.numpy))
        (real,) = graph.node("Cast", [zero], to=TensorProto.FLOAT)
        graph.node("Add", ["x", real], ["y"])
        graph.output("y", F32, (2, 4))
        check_host_graph(graph.build(), [X], [X])
        model = onnx.load_from_string(graph.build())
        assert numpy_helper.to_array(model.graph.initializer[0]).dtype == dtype.numpy
