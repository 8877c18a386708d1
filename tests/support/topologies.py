"""The network topologies that the onnx package ships, as models that can be run.

The package keeps them without weights. Here they get random ones, fixed by a seed, of a size that
lets values neither vanish nor explode. Shapes are static, weights are initialisers, nothing else is
an input. The largest would need hundreds of megabytes and many seconds, so hidden fully connected
layers have at most 256 outputs, and VGG-19 sees 64 x 64 pixels; every convolution is the original's.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, numpy_helper

# by name, million multiplications an inference
TOPOLOGIES: Final[Mapping[str, int]] = {
    "shufflenet": 140,
    "squeezenet": 350,
    "bvlc_alexnet": 670,
    "zfnet512": 1500,
    "inception_v1": 1600,
    "vgg19": 1600,
    "inception_v2": 2000,
    "densenet121": 2900,
    "resnet50": 4100,
}
_FOLDER: Final = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_WIDEST: Final = 256
_PIXELS: Final = {"vgg19": (64, 512 * 2 * 2)}  # and the values that reach its first Gemm
# what the last Gemm multiplies, so that the softmax behind it neither saturates nor is flat
_SHARPNESS: Final = {
    "inception_v1": 0.02,
    "resnet50": 10,
    "shufflenet": 6,
    "vgg19": 2.5,
    "zfnet512": 6,
}

_Floats = npt.NDArray[np.float32]


def topology(name: str, seed: int = 0) -> ModelProto:
    """One of `TOPOLOGIES`: opset 9, a float32 input [1, 3, H, W], an output of 1,000 values."""
    model = onnx.load(_FOLDER / f"light_{name}.onnx")
    graph = model.graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {n: a.shape for n, a in known.items() if a.dtype == np.float32}
    kept = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shapes[node.output[0]] = tuple(int(size) for size in known[node.input[0]])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    constants = {n: a for n, a in known.items() if a.dtype != np.float32}
    _shrink(graph, shapes, constants, name)
    rng = np.random.default_rng(seed)
    roles = _roles(graph)
    residual = any(node.op_type == "Sum" for node in graph.node)
    for parameter, shape in shapes.items():
        if parameter in roles:
            constants[parameter] = _drawn(rng, roles[parameter], shape, residual)
    last = next((node for node in reversed(graph.node) if node.op_type == "Gemm"), None)
    if last is not None:
        weights = next(n for n in _origins(graph, last.input[1]) if n in constants)
        constants[weights] = constants[weights] * np.float32(_SHARPNESS.get(name, 1))
    read = {n for node in graph.node for n in node.input}
    inputs = [i for i in graph.input if i.name in read and i.name not in constants]
    for field in (graph.input, graph.initializer, graph.value_info):
        del field[:]
    graph.input.extend(inputs)
    graph.initializer.extend(
        numpy_helper.from_array(a, n) for n, a in constants.items() if n in read
    )
    model.ir_version = 8
    return model


def _shrink(
    graph: GraphProto,
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, npt.NDArray[np.int64]],
    name: str,
) -> None:
    """Narrow what lies between fully connected layers, in place, and the input where it is too large."""
    layers = [node for node in graph.node if node.op_type == "Gemm"]
    width = None
    if name in _PIXELS:
        pixels, width = _PIXELS[name]
        (data,) = (i for i in graph.input if i.name == "data_0")
        for axis in (2, 3):
            data.type.tensor_type.shape.dim[axis].dim_value = pixels
        (reshape,) = (node for node in graph.node if node.op_type == "Reshape")
        constants[reshape.input[1]] = np.array([1, width])
    for layer in layers:
        _, weights, bias = layer.input
        if weights in shapes:
            outputs, inputs = shapes[weights]
            outputs = outputs if layer is layers[-1] else min(outputs, _WIDEST)
            shapes[weights], shapes[bias] = (outputs, width or inputs), (outputs,)
            width = outputs


def _roles(graph: GraphProto) -> dict[str, tuple[str, int]]:
    """By value, the operator that reads it last and as which operand; reshaping on the way is none."""
    roles: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        for position, name in enumerate(node.input):
            through = node.op_type in ("Reshape", "Unsqueeze") and node.output[0] in roles
            roles[name] = roles[node.output[0]] if through else (node.op_type, position)
    return roles


def _origins(graph: GraphProto, name: str) -> Iterator[str]:
    """The value, and the one it is the reshaped form of."""
    yield name
    yield from (node.input[0] for node in graph.node if name in node.output)


def _drawn(
    rng: np.random.Generator, role: tuple[str, int], shape: tuple[int, ...], residual: bool
) -> _Floats:
    match role:
        case ("Conv", 1):
            values = rng.normal(0, (2 / math.prod(shape[1:])) ** 0.5, shape)
        case ("Gemm", 1):
            values = rng.normal(0, (1 / shape[1]) ** 0.5, shape)
        case ("BatchNormalization", 4) if residual:  # or each sum would double what came before
            values = rng.uniform(3, 5, shape)
        case ("BatchNormalization", 1 | 4) | ("Mul", _):
            values = rng.uniform(0.7, 1.3, shape)
        case _:
            values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)
