"""What the caller gives and gets: permuted inputs, the NPU layout, and axes in the program."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from furiosa.common.tensor import DType, TensorSpec
from furiosa.compiler import CompilerConfig, CompilerOptions, InvalidConfig, compile
from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.passes.remove_lower import RemoveLower
from furiosa.compiler.dfg.verify import RULES
from furiosa.enf import NpuSection, Program, read
from furiosa.vnpu.interpreter import Interpreter
from support import models
from support import tflite_models as lite
from support.models import Array, Net
from support.sketches import Sketch, q
from support.tflite_models import Quant


def image_net(*, width: int = 10, batch: int = 1, channels: int = 8) -> bytes:
    """Quantised; one image [batch, 3, 6, width] in, one [batch, channels, 6, width] out."""
    net = Net((batch, 3, 6, width))
    x = net.node("Relu", "first.relu", [net.conv("first", "image", 3, 4, 3)])
    model = net.model(net.conv("last", x, 4, channels, 3))
    data: bytes = models.quantized(model).SerializeToString()
    return data


def program(model: bytes, *, batch: int = 1, target: str = "warboy-2pe", **config: Any) -> Program:
    options = CompilerOptions(
        target=target, batch_size=batch, config=CompilerConfig.from_mapping(config)
    )
    return read(compile(model, options))


def run(compiled: Program, *inputs: Array) -> list[Array]:
    return list(Interpreter(compiled).run(list(inputs)))


def names(compiled: Program) -> list[str]:
    """Of the instructions."""
    return [instruction.opcode.name for instruction in compiled.instructions]


def image(spec: TensorSpec, seed: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    if spec.dtype is DType.FLOAT32:
        return rng.uniform(-1, 1, spec.shape).astype(np.float32)
    return rng.integers(0, 256, spec.shape, np.uint8).view(spec.dtype.numpy)


def stored(real: Array, spec: TensorSpec) -> Array:
    """As the NPU quantises it."""
    assert spec.quantization is not None
    info = np.iinfo(spec.dtype.numpy)
    held = np.rint(real / np.float32(spec.quantization.scale)) + spec.quantization.zero_point
    return held.clip(info.min, info.max).astype(spec.dtype.numpy)


def real(held: Array, spec: TensorSpec) -> Array:
    assert spec.quantization is not None
    centred = (held.astype(np.int32) - spec.quantization.zero_point).astype(np.float32)
    return np.asarray(centred * np.float32(spec.quantization.scale))


def padded(given: Array, spec: TensorSpec, fill: int) -> Array:
    """An image NCHW in the layout of `spec`, with `fill` in the padding."""
    *others, width = spec.extent
    data = np.full(spec.shape, fill, given.dtype)
    data[..., :width] = given.reshape(*others, width)
    return data


def test_a_permuted_input_gives_the_same_answer() -> None:
    model = image_net()
    plain, other = program(model), program(model, permute_input=[[0, 3, 1, 2]])
    (spec,) = other.input_specs
    assert (spec.shape, spec.axes, spec.name) == ((1, 6, 10, 3), "NHWC", "image")
    given = image(plain.input_specs[0])
    (expected,), (found,) = run(plain, given), run(other, given.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found, expected)
    assert [type(section) for section in other.sections] == [NpuSection]


def test_an_input_is_transposed_after_it_is_quantised() -> None:
    opcodes = names(program(image_net(), permute_input=[[0, 3, 1, 2]]))
    assert opcodes[:2] == ["QUANTIZE", "TRANSPOSE"]


def test_a_float_model_is_permuted_too() -> None:
    net = Net((2, 3, 4))
    model = net.model(net.node("Sin", "sine", ["image"])).SerializeToString()
    given = image(program(model).input_specs[0])
    (found,) = run(program(model, permute_input=[[1, 2, 0]]), given.transpose(2, 0, 1))
    np.testing.assert_allclose(found, np.sin(given), rtol=1e-6)


def test_the_identity_changes_nothing() -> None:
    model = image_net()
    assert program(model, permute_input=[[0, 1, 2, 3]]).input_specs == program(model).input_specs


@pytest.mark.parametrize(
    ("given", "batch", "message"),
    [
        ([], 1, ""),
        ([[0, 1, 2, 3], [0]], 1, "'permute_input' has 2 permutations and the model has 1 inputs"),
        (
            [[0, 1, 2]],
            1,
            r"'permute_input' has \[0, 1, 2\] for input 'image': expected each of its 4",
        ),
        ([[0, 1, 2, 2]], 1, "expected each of its 4 axes once"),
        ([[0, 1, 2, -1]], 1, "expected each of its 4 axes once"),
        ([[1, 0, 2, 3]], 2, "axis 0 stays where it is in a batch of 2"),
    ],
)
def test_permutations_that_do_not_fit(given: list[Any], batch: int, message: str) -> None:
    if not message:  # no permutations are none at all
        program(image_net(), permute_input=given)
        return
    with pytest.raises(InvalidConfig, match=message):
        program(image_net(), batch=batch, permute_input=given)


@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
@pytest.mark.parametrize("width", [10, 32, 33])
def test_an_input_in_the_npu_layout(width: int, target: str) -> None:
    model = image_net(width=width)
    plain, other = program(model), program(model, target=target, remove_lower=True)
    (spec,) = other.input_specs
    wide = -(-width // 32) * 32
    assert spec.dtype is DType.INT8
    assert spec.shape == (1, 1, 1, 3, 6, wide)  # 3 channels cannot be shared by 2 PEs
    assert (spec.extent, spec.axes) == ((1, 1, 1, 3, 6, width), "N??CHW")
    given = image(plain.input_specs[0])
    (expected,) = run(plain, given)
    for fill in (-128, 77):
        (found,) = run(other, padded(stored(given, spec), spec, fill))
        np.testing.assert_array_equal(found, expected)
    opcodes = names(other)
    assert "QUANTIZE" not in opcodes
    assert ("SLICE" in opcodes) == (width != wide)


def quantised_twice(*scales: float) -> Dfg:
    sketch = Sketch()
    x = sketch.input("x", (1, 3, 6, 10))
    outputs = []
    for index, scale in enumerate(scales):
        s = sketch.node("Quantize", [x], f"s{index}", (1, 3, 6, 10), "int8", q(scale))
        outputs.append(sketch.node("Dequantize", [s], f"y{index}", (1, 3, 6, 10)))
    return sketch.done(*outputs)


def test_an_input_that_is_quantised_twice_in_one_way_is_given_once() -> None:
    options = CompilerOptions(config=CompilerConfig(remove_lower=True))
    lowered = RemoveLower().run(quantised_twice(0.5, 0.5), options).graph
    assert [message for rule in RULES for message in rule(lowered)] == []
    assert [node.op for node in lowered.nodes] == ["Reshape", "Slice", "Dequantize", "Dequantize"]
    differently = quantised_twice(0.5, 0.25)  # there is no one tensor that the caller could give
    assert RemoveLower().run(differently, options).graph is differently


@pytest.mark.parametrize("width", [10, 32])
@pytest.mark.parametrize(("target", "share"), [("warboy", 1), ("warboy-2pe", 2)])
def test_an_output_in_the_npu_layout(width: int, target: str, share: int) -> None:
    model = image_net(width=width)
    plain, other = program(model), program(model, target=target, remove_unlower=True)
    (spec,) = other.output_specs
    assert spec.dtype is DType.INT8
    assert spec.shape == (1, 1, share, 8 // share, 6, 32)
    assert (spec.extent, spec.axes) == ((*spec.shape[:-1], width), "N??CHW")
    given = image(plain.input_specs[0])
    (expected,), (found,) = run(plain, given), run(other, given)
    inner = found[..., :width].reshape(1, 8, 6, width)
    np.testing.assert_array_equal(real(inner, spec), expected)
    assert spec.quantization is not None
    assert (found[..., width:] == spec.quantization.zero_point).all()
    opcodes = names(other)
    assert "DEQUANTIZE" not in opcodes
    assert ("PAD" in opcodes) == (width != 32)


def test_both_ends_with_a_batch() -> None:
    model = image_net(batch=2)
    plain = program(model, batch=4)
    other = program(model, batch=4, remove_lower=True, remove_unlower=True)
    (source,), (result,) = other.input_specs, other.output_specs
    assert source.shape == (4, 2, 1, 3, 6, 32)
    assert result.shape == (4, 2, 2, 4, 6, 32)
    given = image(plain.input_specs[0])
    (expected,) = run(plain, given)
    (found,) = run(other, padded(stored(given, source), source, 0))
    np.testing.assert_array_equal(real(found[..., :10].reshape(8, 8, 6, 10), result), expected)


def test_what_is_no_image_stays_as_it_is() -> None:
    model = models.quantized(models.residual_cnn()).SerializeToString()
    plain = program(model)
    other = program(model, remove_unlower=True)
    assert other.output_specs == plain.output_specs  # of rank 2
    net = Net((1, 3, 4, 4))
    real_model = net.model(net.conv("conv", "image", 3, 3, 1)).SerializeToString()
    both = program(real_model, remove_lower=True, remove_unlower=True)  # float32 from end to end
    assert both.input_specs == program(real_model).input_specs
    assert both.output_specs == program(real_model).output_specs


@pytest.mark.parametrize("reader", ["Conv", "LogSoftmax"])  # of the stored image, of the real one
def test_an_output_that_the_model_reads_itself_keeps_its_readers(reader: str) -> None:
    net = Net((1, 3, 6, 10))
    x = net.conv("first", "image", 3, 4, 3)
    is_conv = reader == "Conv"
    y = net.conv("second", x, 4, 4, 3) if is_conv else net.node(reader, "second", [x], axis=1)
    model = models.quantized(net.model(x, y)).SerializeToString()
    plain, other = program(model), program(model, remove_unlower=True)
    given = image(plain.input_specs[0])
    for spec, expected, found in zip(
        other.output_specs, run(plain, given), run(other, given), strict=True
    ):
        if spec.quantization is None:  # a float32 image: no NPU layout
            np.testing.assert_array_equal(found, expected)
        else:
            inner = found[..., :10].reshape(expected.shape)
            np.testing.assert_array_equal(real(inner, spec), expected)
    in_layout = [spec for spec in other.output_specs if spec.quantization is not None]
    assert len(in_layout) == (2 if is_conv else 1)


def tflite_image_net(dtype: str, channels: int = 3) -> bytes:
    net = lite.Net()
    x = net.tensor((1, 6, 10, channels), dtype, Quant((0.05,), (3,)))
    weights = net.constant(
        net.rng.integers(-100, 100, (4, 3, 3, channels), np.int8),
        Quant((0.01,) * 4, (0,) * 4),
    )
    bias = net.constant(net.rng.integers(-50, 50, (4,), np.int32), Quant((0.0005,) * 4, (0,) * 4))
    y = net.tensor((1, 6, 10, 4), dtype, Quant((0.1,), (5,)))
    window = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    net.node("CONV_2D", (x, weights, bias), y, Padding=lite.SAME, **window)
    return net.model((x,), (y,))


def test_ports_of_tensorflow_lite_models_are_nhwc() -> None:
    compiled = program(tflite_image_net("int8"))
    assert [spec.axes for spec in (*compiled.input_specs, *compiled.output_specs)] == ["NHWC"] * 2
    assert [spec.axes for spec in program(image_net()).input_specs] == [""]  # NCHW


@pytest.mark.parametrize("channels", [1, 3])
def test_the_npu_layout_of_a_tensorflow_lite_model(channels: int) -> None:
    model = tflite_image_net("int8", channels)
    plain, other = program(model), program(model, remove_lower=True, remove_unlower=True)
    (source,), (result,) = other.input_specs, other.output_specs
    assert source.shape == (1, 1, 1, channels, 6, 32)
    given = image(plain.input_specs[0])
    (expected,) = run(plain, given)
    (found,) = run(other, padded(given.transpose(0, 3, 1, 2), source, 9))
    inner = found[..., :10].reshape(1, 4, 6, 10).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(inner, expected)
    assert result.axes == "N??CHW"
    if channels > 1:  # the model's own Transpose is gone
        assert "TRANSPOSE" not in names(other)


def requantized(factor: float, point: int = -7) -> bytes:
    """The image net whose result is quantised once more, `factor` times as coarse."""
    model = onnx.load_model_from_string(image_net())
    last = model.graph.node[-1]
    assert last.op_type == "DequantizeLinear"
    (scale,) = (
        numpy_helper.to_array(t) for t in model.graph.initializer if t.name == last.input[1]
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(scale * np.float32(factor), np.float32), "scale2"),
            numpy_helper.from_array(np.array(point, np.int8), "point2"),
        ]
    )
    result = model.graph.output[0].name
    last.output[0] = "once"
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["once", "scale2", "point2"], ["twice"], "q2"),
            helper.make_node("DequantizeLinear", ["twice", "scale2", "point2"], [result], "dq2"),
        ]
    )
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("factor", [1.0, 1.7, 5.0])
def test_precision_error_saves_an_instruction_and_costs_one_lsb_at_most(factor: float) -> None:
    model = requantized(factor)
    exact, loose = program(model), program(model, allow_precision_error=True)
    assert len(loose.instructions) == len(exact.instructions) - 1
    given = image(exact.input_specs[0])
    (expected,), (found,) = run(exact, given), run(loose, given)
    lsb = float(exact.constants[exact.instructions[-1].multiplier][0])
    steps = np.rint((found - expected) / lsb)
    assert np.abs(steps).max() <= 1
    assert np.unique(found).size > 8


def test_a_finer_scale_is_not_fused() -> None:
    model = requantized(0.5)
    exact, loose = program(model), program(model, allow_precision_error=True)
    assert len(loose.instructions) == len(exact.instructions)


def test_results_are_exact_unless_an_error_is_allowed() -> None:
    model = requantized(1.7)
    given = image(program(model).input_specs[0])
    (ours,) = run(program(model), given)
    (theirs,) = models.run(onnx.load_model_from_string(model), given)
    lsb = float(numpy_helper.to_array(onnx.load_model_from_string(model).graph.initializer[-2]))
    assert np.abs(ours - theirs).max() <= lsb * 1.001


def test_the_text_forms_say_what_ports_look_like() -> None:
    options = CompilerOptions(target_ir="lir", config=CompilerConfig(remove_unlower=True))
    first = compile(image_net(), options).decode().splitlines()[0]
    (output,) = program(image_net()).outputs
    assert f" port %{output.name} N??CHW[1,1,2,4,6,10] target warboy-2pe " in first
