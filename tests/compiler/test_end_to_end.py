"""Compiled programs compute what onnxruntime computes.

Bounds: onnxruntime rounds float sums of dequantised values where the NPU rounds integer sums, so a
stored value may differ by 1 where two roundings meet. Each operator on the way adds at most that, hence
"within 1 LSB of the output" for these small nets. Host sections are onnxruntime itself: 1e-5.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import HostSection, NpuSection, Opcode, Program, read
from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from furiosa.vnpu.interpreter import Interpreter
from support import models
from support.models import Array, Net

TARGETS = ("warboy", "warboy-2pe")


def program(model: onnx.ModelProto, **options: Any) -> Program:
    return read(compile(model.SerializeToString(), CompilerOptions(**options)))


def kinds(compiled: Program) -> list[type]:
    return [type(section) for section in compiled.sections]


def worst(model: onnx.ModelProto, compiled: Program, count: int = 8) -> float:
    """Largest difference from onnxruntime over `count` images."""
    interpreter = Interpreter(compiled)
    differences = []
    for image in models.images(model, count):
        pairs = zip(models.run(model, image), interpreter.run([image]), strict=True)
        differences += [float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs]
    return max(differences)


def lsb(compiled: Program) -> float:
    """Scale of the last dequantised tensor."""
    last = [i for i in compiled.instructions if i.opcode is Opcode.DEQUANTIZE][-1]
    return float(compiled.constants[last.multiplier][0])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantised_cnn_runs_on_the_npu_alone(target: str, dtype: type[np.generic]) -> None:
    model = models.quantized(models.residual_cnn(), dtype)
    compiled = program(model, target=target)
    assert kinds(compiled) == [NpuSection]
    opcodes = [i.opcode.name for i in compiled.instructions]
    assert opcodes == [
        "QUANTIZE",
        "CONV2D",
        "DEPTHWISE_CONV2D",
        "CONV2D",
        "ADD",
        "MAX_POOL2D",
        "DEPTHWISE_CONV2D",
        "CONV2D",
        "RESHAPE",
        "DEQUANTIZE",
    ]
    convolutions = [i for i in compiled.instructions if "CONV" in i.opcode.name]
    assert {i.pes for i in convolutions} <= ({0b1, 0b11} if target == "warboy-2pe" else {0b1})
    assert compiled.provenance[1] == "stem+stem.relu"
    assert worst(model, compiled) <= lsb(compiled) * 1.001


def test_float_model_is_one_host_section() -> None:
    model = models.residual_cnn()
    compiled = program(model)
    assert kinds(compiled) == [HostSection]
    assert compiled.instructions == ()
    assert worst(model, compiled) < 1e-5


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param({"tail": "Softmax"}, [NpuSection, HostSection], id="softmax at the end"),
        pytest.param(
            {"middle": "Sin"}, [NpuSection, HostSection, NpuSection], id="sine in the middle"
        ),
    ],
)
def test_what_the_npu_cannot_do_runs_on_the_host(
    parts: dict[str, str], expected: list[type]
) -> None:
    model = models.quantized(models.residual_cnn(**parts))  # type: ignore[arg-type]  # test data
    compiled = program(model)
    assert kinds(compiled) == expected
    assert worst(model, compiled) <= lsb(compiled) * 1.001


def conv_net(**attributes: Any) -> Net:
    net = Net((1, 4, 9, 7))
    net.conv("c", "image", 4, 6, 3, **attributes)
    return net


def single(op: str, **attributes: Any) -> onnx.ModelProto:
    """Image, operator, and nothing else."""
    net = Net((1, 4, 9, 7))
    return net.model(net.node(op, "only", ["image"], **attributes))


def clipped() -> onnx.ModelProto:
    net = conv_net()
    low, high = net.constant("low", np.float32(-0.25)), net.constant("high", np.float32(0.5))
    return net.model(net.node("Clip", "clip", ["c:0", low, high]))


def lone_relu() -> onnx.ModelProto:
    net = conv_net()
    pool = net.node("MaxPool", "pool", ["c:0"], kernel_shape=[2, 2])
    return net.model(net.node("Relu", "relu", [pool]))


VARIATIONS = {
    "strides": conv_net(strides=[2, 3]).model("c:0"),
    "dilations": conv_net(dilations=[2, 1], pads=[2, 1, 0, 3]).model("c:0"),
    "groups": conv_net(group=2).model("c:0"),
    "same upper": conv_net(auto_pad="SAME_UPPER", strides=[2, 2], pads=None).model("c:0"),
    "same lower": conv_net(auto_pad="SAME_LOWER", strides=[2, 2], pads=None).model("c:0"),
    "valid": conv_net(auto_pad="VALID", pads=None).model("c:0"),
    "clip": clipped(),
    "relu by itself": lone_relu(),
    "max pool rounding up": single("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max pool padded": single("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool": single("AveragePool", kernel_shape=[3, 2], strides=[2, 1]),
    "average pool over pads": single("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average pool counting pads": single(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", VARIATIONS)
def test_variation_runs_on_the_npu(name: str, dtype: type[np.generic]) -> None:
    model = models.quantized(VARIATIONS[name], dtype)
    compiled = program(model)
    assert kinds(compiled) == [NpuSection]
    assert worst(model, compiled) <= lsb(compiled) * 1.001


@pytest.mark.parametrize("name", VARIATIONS)
def test_variation_in_float_runs_on_the_host(name: str) -> None:
    compiled = program(VARIATIONS[name])
    assert kinds(compiled) == [HostSection]
    assert worst(VARIATIONS[name], compiled) < 1e-5


def test_scalar_constants_reach_the_host_as_scalars() -> None:
    net = Net((1, 6))
    index = net.constant("index", np.array(2, np.int64))
    model = net.model(
        net.node("Gather", "pick", [net.node("Softmax", "s", ["image"]), index], axis=1)
    )
    assert worst(model, program(model)) < 1e-6


@pytest.mark.parametrize("opset", [11, 12, 13, 15, 17])
def test_host_sections_keep_the_meaning_of_the_opset(opset: int) -> None:
    """Softmax without axis is over all but the first dimension up to opset 12, the last one from 13."""
    net = Net((1, 3, 4, 5), opset=opset)
    model = net.model(
        net.node("Softmax", "s", [net.node("AveragePool", "a", ["image"], kernel_shape=[2, 2])])
    )
    assert worst(model, program(model)) < 1e-6


@pytest.mark.parametrize("parts", [{}, {"tail": "Softmax", "middle": "Sin"}])
@pytest.mark.parametrize("quantise", [False, True])
def test_a_batch_is_that_many_inferences(parts: dict[str, str], quantise: bool) -> None:
    model = models.residual_cnn(**parts)  # type: ignore[arg-type]  # test data
    model = models.quantized(model) if quantise else model
    batched = program(model, batch_size=3)
    assert batched.batch == 3
    assert batched.input_specs[0].shape == (3, 3, 12, 10)
    one, many = Interpreter(program(model)), Interpreter(batched)
    images = models.images(model, 3)
    (together,) = many.run([np.concatenate(images)])
    apart = np.concatenate([one.run([image])[0] for image in images])
    assert np.abs(together - apart).max() < 1e-6


def test_an_unsigned_input_is_taken_as_it_is() -> None:
    """A model whose input is uint8 starts with Dequantize; its port tells how to read the values."""
    model = models.quantized(conv_net().model("c:0"), np.uint8)
    first, second, *rest = model.graph.node
    assert (first.op_type, second.op_type) == ("QuantizeLinear", "DequantizeLinear")
    del model.graph.node[:]
    second.input[0] = "image"
    model.graph.node.extend([second, *rest])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    compiled = program(model)
    (spec,) = compiled.input_specs
    assert spec.dtype.value == "uint8"
    assert spec.quantization is not None
    assert kinds(compiled) == [NpuSection]
    image: Array = np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)
    (expected,), (found,) = models.run(model, image), Interpreter(compiled).run([image])
    assert np.abs(expected - found).max() <= lsb(compiled) * 1.001


def product(op: str, shape: tuple[int, ...], out: int, *bias: Array) -> onnx.ModelProto:
    """Image times constant weights, plus the bias if there is one, in QDQ form; 1 LSB is 0.02."""
    net = Net(shape)
    net.constant("weights", net.rng.integers(-127, 128, (shape[-1], out), np.int8))
    for name, scale, point in (("x", 1 / 127, 0), ("w", 0.01, 0), ("y", 0.02, 3)):
        net.constant(f"{name}.scale", np.array(scale, np.float32))
        net.constant(f"{name}.zero", np.array(point, np.int8))
    x, w, y = (["x.scale", "x.zero"], ["w.scale", "w.zero"], ["y.scale", "y.zero"])
    stored = net.node("QuantizeLinear", "xq", ["image", *x])
    real = net.node("DequantizeLinear", "xd", [stored, *x])
    weights = net.node("DequantizeLinear", "wd", ["weights", *w])
    made = net.node(op, "m", [real, weights, *(net.constant("bias", b) for b in bias)])
    stored = net.node("QuantizeLinear", "yq", [made, *y])
    return net.model(net.node("DequantizeLinear", "yd", [stored, *y]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), NpuSection), ((4,), NpuSection), ((1, 4), NpuSection), ((4, 1), HostSection)],
)
def test_a_bias_lies_along_the_columns_to_be_one(shape: tuple[int, ...], expected: type) -> None:
    """A column of as many numbers as the result has columns is still one number for each row."""
    bias = np.linspace(-2, 2, 4 if shape else 1).astype(np.float32).reshape(shape)
    model = product("Gemm", (4, 5), 4, bias)
    compiled = program(model)
    assert kinds(compiled) == [expected]
    assert worst(model, compiled) <= 0.02 * 1.001


def test_matmul_of_several_rows_is_a_convolution_of_as_many_images() -> None:
    model = product("MatMul", (1, 4, 9, 7), 5)
    compiled = program(model)
    assert [i.opcode for i in compiled.instructions].count(Opcode.CONV2D) == 1
    assert kinds(compiled) == [NpuSection]
    assert compiled.output_specs[0].shape == (1, 4, 9, 5)
    assert worst(model, compiled) <= lsb(compiled) * 1.001


def test_the_example_network_is_all_npu_once_quantised() -> None:
    examples = Path(__file__).parents[2] / "examples" / "data"
    pixels = np.load(examples / "digits.npz")
    floats = optimize_model(onnx.load(examples / "digits_cnn.onnx"))
    calibrator = Calibrator(floats, CalibrationMethod.MIN_MAX_ASYM)
    batch = [[image[None, None].astype(np.float32)] for image in pixels["calibration_images"][:20]]
    calibrator.collect_data(batch)
    model = onnx.load_from_string(quantize(floats, calibrator.compute_range()))
    compiled = program(model)
    assert kinds(compiled) == [NpuSection]
    interpreter = Interpreter(compiled)
    for image in pixels["test_images"][:5]:
        image = image[None, None].astype(np.float32)
        (expected,), (found,) = models.run(model, image), interpreter.run([image])
        assert np.abs(expected - found).max() <= lsb(compiled) * 1.001


def test_the_same_model_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    model = models.quantized(models.residual_cnn(tail="Softmax", middle="Sin"))
    source = tmp_path / "model.onnx"
    source.write_bytes(model.SerializeToString())
    script = (
        "import sys, hashlib; from pathlib import Path; from furiosa.compiler import *;"
        "data = Path(sys.argv[1]).read_bytes();"
        "print(*(hashlib.sha256(compile(data, CompilerOptions(target_ir=ir))).hexdigest()"
        " for ir in ('dfg', 'ldfg', 'cdfg', 'gir', 'lir', 'enf')))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script, str(source)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(set(found.pop().split())) == 6  # one form each


def test_long_names_inside_are_cut() -> None:
    model = models.quantized(models.residual_cnn(), np.int8)
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    made = {name for node in model.graph.node for name in node.output} - ports
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name + "ä" * 600 if name in made else name
    compiled = program(model)
    long = [b.name for b in compiled.buffers if "ä" in b.name]
    assert len(long) == len(set(long)) > 5
    assert all(1000 < len(name.encode()) <= 1024 for name in long)
    assert worst(model, compiled) <= lsb(compiled) * 1.001
