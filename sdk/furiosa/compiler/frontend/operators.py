"""ONNX operators to dfg nodes: one function for each that needs more than a copy, and one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.value import Array, Attribute, QuantParams, constant


@dataclass(frozen=True, slots=True)
class Import:
    """One ONNX node on its way into `graph`, whose values are there already, with a unique `name`."""

    graph: Dfg
    node: onnx.NodeProto
    name: str
    attributes: Mapping[str, Attribute]

    def add(self, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Attribute]) -> None:
        outputs = tuple(self.node.output)
        self.graph.nodes.append(Node(self.name, op, inputs, outputs, attributes, (self.name,)))

    def refuse(self, found: str, hint: str) -> InvalidModel:
        return InvalidModel(found, hint, self.name, self.node.op_type)


def attributes_of(node: onnx.NodeProto) -> dict[str, Attribute]:
    """Raises: InvalidModel for a kind of attribute that no operator we know needs."""
    table: dict[str, Attribute] = {}
    for attribute in node.attribute:
        match attribute.type:
            case onnx.AttributeProto.FLOAT | onnx.AttributeProto.INT:
                table[attribute.name] = onnx.helper.get_attribute_value(attribute)
            case onnx.AttributeProto.STRING:
                table[attribute.name] = _text(attribute.s)
            case onnx.AttributeProto.FLOATS:
                table[attribute.name] = tuple(attribute.floats)
            case onnx.AttributeProto.INTS:
                table[attribute.name] = tuple(attribute.ints)
            case onnx.AttributeProto.STRINGS:
                table[attribute.name] = tuple(map(_text, attribute.strings))
            case onnx.AttributeProto.TENSOR:
                table[attribute.name] = read_tensor(attribute.t)
            case kind:
                raise InvalidModel(
                    f"attribute '{attribute.name}' is of kind {kind}",
                    "use operators with plain attributes",
                    node.name,
                    node.op_type,
                )
    return table


def read_tensor(tensor: onnx.TensorProto) -> Array:
    """Raises: InvalidModel for one that is broken."""
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as exc:
        raise InvalidModel(
            f"tensor '{tensor.name}' cannot be read: {exc}", "export the model anew"
        ) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def generic(item: Import) -> None:
    item.add(item.node.op_type, tuple(item.node.input), item.attributes)


def constant_(item: Import) -> None:
    """Constant: a value instead of a node."""
    result = item.graph.values[item.node.output[0]]  # whose type is known, so it is no text
    (held,) = item.attributes.values()
    item.graph.add(constant(result.name, np.array(held, result.dtype.numpy)))


def conv(item: Import) -> None:
    """Conv, whose operands are checked here because ONNX shape inference does not."""
    source, weights, *bias = (item.graph.values[name].shape for name in item.node.input if name)
    group = item.attributes.get("group", 1)
    assert isinstance(group, int)
    channels = (source[1], weights[1] * group) if len(source) == len(weights) > 2 else (0, 1)
    if (
        group < 1
        or channels[0] != channels[1]
        or weights[0] % group
        or bias not in ([], [weights[:1]])
    ):
        shapes = ", ".join(str(list(shape)) for shape in (source, weights, *bias))
        raise item.refuse(f"operands {shapes} do not fit {group} groups", "export the model anew")
    kernel = item.attributes.get("kernel_shape", weights[2:])
    if kernel != weights[2:]:
        raise item.refuse(
            f"its kernel_shape is {kernel}, its weights have {weights[2:]}", "export the model anew"
        )
    windowed(replace(item, attributes={"group": group, **item.attributes, "kernel_shape": kernel}))


def windowed(item: Import) -> None:
    """Conv and pooling: `kernel_shape`, `strides`, `pads` and, but for average pools, `dilations` are set."""
    source = item.graph.values[item.node.input[0]].shape
    given = dict(item.attributes)
    auto = given.pop("auto_pad", "NOTSET")
    axes = len(source) - 2
    kernel = _ints(given["kernel_shape"])
    given["strides"] = strides = _ints(given.get("strides", (1,) * axes))
    dilations = _ints(given.get("dilations", (1,) * axes))
    if item.node.op_type != "AveragePool":  # which has the attribute from opset 19 on only
        given["dilations"] = dilations
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = [], []
        for size, k, stride, dilation in zip(source[2:], kernel, strides, dilations, strict=True):
            covered = (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1
            missing = max(covered - size, 0)
            begin.append(missing // 2 if auto == "SAME_UPPER" else -(-missing // 2))
            end.append(missing - begin[-1])
        given["pads"] = (*begin, *end)
    elif auto == "VALID":
        given["pads"] = (0,) * (2 * axes)
    else:
        given["pads"] = _ints(given.get("pads", (0,) * (2 * axes)))
    if given.get("ceil_mode", 0):
        result = item.graph.values[item.node.output[0]].shape
        columns = zip(source[2:], result[2:], strides, _ints(given["pads"]), strict=False)
        if any((out - 1) * stride >= size + begin for size, out, stride, begin in columns):
            raise item.refuse(
                f"a window of its result {list(result)} would lie in the padding at the end, which "
                "ONNX counts and onnxruntime leaves out",
                "give it ceil_mode 0 or less padding at the end",
            )
    item.add(item.node.op_type, tuple(item.node.input), given)


def _ints(held: Attribute) -> tuple[int, ...]:
    assert isinstance(held, tuple)
    return tuple(int(number) for number in held)


def reshape(item: Import) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the result's shape is all there is to know."""
    item.add("Reshape", (item.node.input[0],), {})


def quantize_linear(item: Import) -> None:
    _linear(item, "Quantize", item.node.output[0])


def dequantize_linear(item: Import) -> None:
    _linear(item, "Dequantize", item.node.input[0])


def _linear(item: Import, op: str, stored: str) -> None:
    """Move constant parameters onto the stored value; what does not fit there stays a plain ONNX node."""
    params = _parameters(item, stored)
    value = item.graph.values[stored]
    if params is None or value.quantization not in (None, params):
        return generic(item)
    real = item.graph.values[item.node.output[0] if op == "Dequantize" else item.node.input[0]]
    if real.dtype is not DType.FLOAT32:
        return generic(item)
    item.graph.add(replace(value, quantization=params))
    item.add(op, (item.node.input[0],), {})
    return None


def _parameters(item: Import, stored: str) -> QuantParams | None:
    """Raises: InvalidModel for scales that are not finite and positive."""
    names = [*item.node.input, ""]
    scale, point = item.graph.data(names[1]), item.graph.data(names[2])
    if scale is None or (names[2] and point is None) or "block_size" in item.attributes:
        return None
    if scale.dtype != np.float32 or item.graph.values[stored].dtype not in _STORED:
        return None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise item.refuse(f"its scale is {scale.min()}", "quantise the model anew")
    points = np.zeros(scale.size, np.int64) if point is None else point.astype(np.int64).ravel()
    axis = None
    if scale.size > 1:
        shape, given = item.graph.values[stored].shape, item.attributes.get("axis", 1)
        assert isinstance(given, int)
        axis = given % max(len(shape), 1)
        if not shape or scale.shape != (shape[axis],):
            return None
    if points.size != scale.size:
        return None
    return QuantParams(tuple(scale.ravel().tolist()), tuple(points.tolist()), axis)


_STORED: Final = (DType.INT8, DType.UINT8, DType.INT32)

OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "AveragePool": windowed,
    "Constant": constant_,
    "Conv": conv,
    "DequantizeLinear": dequantize_linear,
    "Flatten": reshape,
    "MaxPool": windowed,
    "QuantizeLinear": quantize_linear,
    "Reshape": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
}
