"""What the TensorFlow Lite frontend refuses, by name, and that no bytes whatever do worse than that."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from furiosa.compiler import (
    CompilerOptions,
    InvalidFormat,
    InvalidModel,
    compile,
)
from furiosa.compiler.frontend.tflite import builder
from furiosa.compiler.frontend.tflite import file as tflite_file
from furiosa.compiler.frontend.tflite.importer import import_tflite
from support.tflite_models import TANH, Net, Quant


def pair(kind: str = "ADD", shape: tuple[int, ...] = (1, 2, 2, 3), **options: object) -> Net:
    """An operator on two tensors, 0 and 1, that makes tensor 2."""
    net = Net()
    net.node(kind, [net.tensor(shape), net.tensor(shape)], net.tensor(shape), **options)
    return net


def unknown() -> bytes:
    return pair("GELU").model([0, 1], [2])


def custom() -> bytes:
    return pair("CUSTOM").model([0, 1], [2])


def second_of_two() -> bytes:
    net = pair()
    net.node("CUSTOM", [2, 1], net.tensor((1,)))
    return net.model([0, 1], [3])


def dynamic() -> bytes:
    net = Net()
    net.node("RELU", [net.tensor((1, 1, 1, 3), signature=(-1, -1, 1, 3))], net.tensor((1, 1, 1, 3)))
    return net.model([0], [1])


def empty_dimension() -> bytes:
    return pair(shape=(1, 0, 2, 3)).model([0, 1], [2])


def tanh() -> bytes:
    return pair(FusedActivationFunction=TANH).model([0, 1], [2])


def wrong_shape() -> bytes:
    net = Net()
    net.node("RELU", [net.tensor((1, 4))], net.tensor((1, 5)))
    return net.model([0], [1])


def wide_integers() -> bytes:
    net = Net()
    quant = Quant((0.1,))
    net.node("RELU", [net.tensor((1, 4), "int16", quant)], net.tensor((1, 4), "int16", quant))
    return net.model([0], [1])


def no_scale() -> bytes:
    net = Net()
    net.node("RELU", [net.tensor((1, 4), "int8")], net.tensor((1, 4), "int8"))
    return net.model([0], [1])


def bad_scale() -> bytes:
    net = Net()
    net.node("RELU", [net.tensor((1, 4), "int8", Quant((np.nan,)))], net.tensor((1, 4)))
    return net.model([0], [1])


def bad_point() -> bytes:
    net = Net()
    net.node("RELU", [net.tensor((1, 4), "uint8", Quant((0.1,), (256,)))], net.tensor((1, 4)))
    return net.model([0], [1])


def missing_scales() -> bytes:
    net = Net()
    quant = Quant((0.1, 0.2), (0, 0), axis=1)
    net.node("RELU", [net.tensor((1, 4), "int8", quant)], net.tensor((1, 4)))
    return net.model([0], [1])


def backwards() -> bytes:
    net = Net()
    source, first, last = (net.tensor((1, 4)) for _ in range(3))
    net.node("RELU", [first], last)
    net.node("RELU", [source], first)
    return net.model([source], [last])


def made_twice() -> bytes:
    net = Net()
    source, result = net.tensor((1, 4)), net.tensor((1, 4))
    net.node("RELU", [source], result)
    net.node("RELU", [source], result)
    return net.model([source], [result])


def input_as_output() -> bytes:
    return pair().model([0, 1], [0])


def two_graphs() -> bytes:
    return pair().model([0, 1], [2], subgraphs=2)


def mean_over_a_fifth_axis() -> bytes:
    net = Net()
    axes = net.constant(np.array([4], np.int32))
    net.node("MEAN", [net.tensor((1, 2, 2, 3)), axes], net.tensor((1, 2, 2)))
    return net.model([1], [2])


def large_window() -> bytes:
    net = Net()
    options = {"Padding": 1, "StrideH": 1, "StrideW": 1, "FilterHeight": 5, "FilterWidth": 1}
    net.node("MAX_POOL_2D", [net.tensor((1, 2, 2, 3))], net.tensor((1, 1, 1, 3)), **options)
    return net.model([0], [1])


def no_stride() -> bytes:
    net = Net()
    options = {"FilterHeight": 1, "FilterWidth": 1}
    net.node("MAX_POOL_2D", [net.tensor((1, 2, 2, 3))], net.tensor((1, 2, 2, 3)), **options)
    return net.model([0], [1])


def weights_that_vary() -> bytes:
    net = pair("FULLY_CONNECTED", (4, 4))
    return net.model([0, 1], [2])


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (
            unknown,
            "node 'GELU_0' (GELU): this operator is not supported; build the model from ABS,",
        ),
        (custom, "node 'CUSTOM_0' (CUSTOM): it is the custom operator 'MyOperator'; export"),
        (second_of_two, "node 'CUSTOM_1' (CUSTOM)"),
        (dynamic, "tensor 't0' has a dynamic dimension: [-1, -1, 1, 3]; export the model with"),
        (empty_dimension, "tensor 't0' has a dynamic dimension: [1, 0, 2, 3]"),
        (tanh, "node 'ADD_0' (ADD): its activation is TANH; use RELU"),
        (wrong_shape, "its result 't1' has shape [1, 5], its operands make [1, 4]"),
        (wide_integers, "it reads 't0', which is int16; give it float32"),
        (no_scale, "it reads 't0', which is int8 without a scale"),
        (bad_scale, "tensor 't0' has scale nan; quantise the model anew"),
        (bad_point, "tensor 't0' has a zero point outside of uint8"),
        (missing_scales, "tensor 't0' of shape [1, 4] has 2 scales and 2 zero points on axis 1"),
        (backwards, "node 'RELU_0' (RELU): it reads 't1' before it is made"),
        (made_twice, "node 'RELU_1' (RELU): it makes 't1', which is there already"),
        (input_as_output, "output 't0' is no operator's result"),
        (two_graphs, "it has 2 subgraphs"),
        (mean_over_a_fifth_axis, "its axis is 4 of 4"),
        (large_window, "its window of 5 is larger than its input of 2"),
        (
            no_stride,
            "its kernel [1, 1], strides [0, 0], dilations [1, 1] and padding 0 make no window",
        ),
        (weights_that_vary, "its weights 't1' are not constant"),
    ],
)
def test_model_is_refused_by_name(make: Callable[[], bytes], found: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        compile(make())
    assert found in str(caught.value)


def concatenated() -> bytes:
    net = Net()
    sources = [net.tensor((1, 4)), net.tensor((1, 4))]
    net.node("CONCATENATION", sources, net.tensor((2, 4)), Axis=0)
    return net.model(sources, [2])


def flattened() -> bytes:
    net = Net()
    net.node("RESHAPE", [net.tensor((2, 3))], net.tensor((6,)))
    return net.model([0], [1])


def broadcast() -> bytes:
    net = Net()
    net.node("ADD", [net.tensor((1, 4)), net.tensor((1, 1, 4))], net.tensor((1, 1, 4)))
    return net.model([0, 1], [2])


def softmax_of_a_row() -> bytes:
    net = Net()
    net.node("SOFTMAX", [net.tensor((4,))], net.tensor((4,)), Beta=1.0)
    return net.model([0], [1])


@pytest.mark.parametrize("make", [concatenated, flattened, broadcast, softmax_of_a_row])
def test_what_would_mix_a_batch_is_refused_for_batches_only(make: Callable[[], bytes]) -> None:
    compile(make())
    with pytest.raises(InvalidModel, match="mixes the entries of a batch"):
        compile(make(), CompilerOptions(batch_size=2))


def test_a_batch_dimension_that_is_open_is_what_the_file_was_exported_with() -> None:
    net = Net()
    net.node("RELU", [net.tensor((1, 4), signature=(-1, 4))], net.tensor((1, 4)))
    graph = import_tflite(net.model([0], [1]), CompilerOptions())
    assert graph.values["t0"].shape == (1, 4)


def test_constants_of_another_size_than_their_shape_are_refused() -> None:
    net = Net()
    net.node("ADD", [net.tensor((1, 4)), net.constant(np.zeros(4, np.float32))], net.tensor((1, 4)))
    data = net.model([0], [2])
    net.tensors[1] = type(net.tensors[1])("float32", (5,), None, np.zeros(4, np.float32), None)
    compile(data)
    with pytest.raises(InvalidFormat, match="tensor 't1' has 16 bytes, needs 20"):
        compile(net.model([0], [2]))


def test_one_constant_named_often_is_charged_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file could otherwise make every layer copy its one large constant."""
    net = Net()
    weights = net.constant(np.zeros((100, 100), np.float32))
    last = source = net.tensor((1, 100))
    for _ in range(4):
        last = net.node("FULLY_CONNECTED", [last, weights, -1], net.tensor((1, 100)))
    model = net.model([source], [last])
    compile(model)
    monkeypatch.setattr(builder, "MAX_MODEL_BYTES", len(model))
    with pytest.raises(InvalidModel, match=f"its constants take more than {len(model)} bytes"):
        compile(model)


def test_a_large_file_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_net()
    monkeypatch.setattr(tflite_file, "MAX_MODEL_BYTES", len(model) - 1)
    with pytest.raises(InvalidFormat, match=f"the model has {len(model)} bytes; models of up to"):
        compile(model)


def small_net() -> bytes:
    """A convolution by channel, an average pool and a fully connected layer, in int8."""
    net = Net()
    quant = Quant((0.05,), (3,))
    source = net.tensor((1, 6, 6, 3), "int8", quant)
    weights = net.constant(
        net.rng.integers(-127, 128, (4, 3, 3, 3), np.int8), Quant([0.01] * 4, [0] * 4)
    )
    bias = net.constant(np.arange(4, dtype=np.int32), Quant([0.0005] * 4, [0] * 4))
    made = net.tensor((1, 6, 6, 4), "int8", quant)
    options = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    net.node("CONV_2D", [source, weights, bias], made, **options)
    axes = net.constant(np.array([1, 2], np.int32))
    mean = net.node("MEAN", [made, axes], net.tensor((1, 4), "int8", quant))
    rows = net.constant(net.rng.integers(-127, 128, (5, 4), np.int8), Quant((0.01,)))
    return net.model(
        [source], [net.node("FULLY_CONNECTED", [mean, rows, -1], net.tensor((1, 5), "int8", quant))]
    )


def test_every_beginning_of_a_file_is_refused() -> None:
    model = small_net()
    compile(model)
    for length in range(8, len(model), 7):
        try:
            compile(model[:length])
        except (InvalidFormat, InvalidModel):
            continue
        assert length > len(model) // 2  # what was cut off is not referred to


def test_damage_anywhere_is_a_named_refusal_or_another_model() -> None:
    model, rng = small_net(), random.Random(0)
    refused = 0
    for _ in range(1500):
        broken = bytearray(model)
        for _ in range(rng.choice((1, 2, 5))):
            place, size = rng.randrange(8, len(model) - 4), rng.choice((1, 2, 4))
            broken[place : place + size] = rng.choice((b"\0", b"\xff", rng.randbytes(1))) * size
        try:
            import_tflite(bytes(broken), CompilerOptions(batch_size=rng.choice((1, 2))))
        except (InvalidFormat, InvalidModel):
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    "data", [b"\x1c\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + bytes(40), b"\0" * 4 + b"TFL3"]
)
def test_bytes_that_only_begin_like_a_model_are_refused(data: bytes) -> None:
    with pytest.raises((InvalidFormat, InvalidModel)):
        compile(data)
