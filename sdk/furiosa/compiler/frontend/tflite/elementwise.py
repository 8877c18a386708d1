"""TensorFlow Lite operators on each element by itself, and on the elements of two tensors."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from furiosa.compiler.frontend.tflite.builder import Layout
from furiosa.compiler.frontend.tflite.file import Tensor
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.value import Attribute

Operator = Callable[[Import], None]


def _binary(op: str) -> Operator:
    def convert(item: Import) -> None:
        """Two tensors with broadcasting, which goes by the last dimensions as the file has them."""
        left, right = item.operands(2)
        try:
            item.expect(np.broadcast_shapes(left.shape, right.shape))
        except ValueError:
            raise item.refuse(
                f"its operands {list(left.shape)} and {list(right.shape)} do not broadcast"
            ) from None
        layout = _common(item, left, right)
        names = tuple(_operand(item, tensor, layout) for tensor in (left, right))
        item.compute(op, names, layout, activation=item.activation)

    return convert


def _common(item: Import, *tensors: Tensor) -> Layout:
    """A layout for operands that are broadcast to the result: NCHW if that is where they are already."""
    moving = [tensor for tensor in tensors if tensor.data is None]
    if len(item.result.shape) != 4 or any(len(tensor.shape) != 4 for tensor in moving):
        return Layout.PLAIN
    return item.builder.layout_of(*moving)


def _operand(item: Import, tensor: Tensor, layout: Layout) -> str:
    """The real value of an operand that is to be broadcast; constants for NCHW get their four axes."""
    if layout is Layout.IMAGE and tensor.data is not None:
        tensor = item.builder.widened(tensor, 4)
    return item.builder.real(item.operator, tensor, layout)


def _unary(op: str, *bounds: float) -> Operator:
    def convert(item: Import) -> None:
        (source,) = item.operands(1)
        limits = tuple(
            item.builder.constant(f"{item.result.name}/bound", np.array(bound, np.float32))
            for bound in bounds
        )
        _each(item, op, source, limits, {})

    return convert


def _each(
    item: Import,
    op: str,
    source: Tensor,
    parameters: tuple[str, ...],
    attributes: Mapping[str, Attribute],
) -> None:
    item.expect(source.shape)
    layout = item.builder.layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    item.compute(op, (name, *parameters), layout, attributes)


def leaky_relu(item: Import) -> None:
    (source,) = item.operands(1)
    alpha = float(item.operator.options.get("Alpha", 0.0))
    _each(item, "LeakyRelu", source, (), {"alpha": alpha})


def prelu(item: Import) -> None:
    """Slopes are constant, and broadcast to the input."""
    source, slopes = item.operands(2)
    if slopes.data is None:
        raise item.refuse(f"its slopes '{slopes.name}' are not constant", "make them so")
    item.expect(source.shape)
    layout = _common(item, source, slopes)
    names = tuple(_operand(item, tensor, layout) for tensor in (source, slopes))
    item.compute("PRelu", names, layout)


OPERATORS: Final[Mapping[str, Operator]] = {
    "ABS": _unary("Abs"),
    "ADD": _binary("Add"),
    "DIV": _binary("Div"),
    "ELU": _unary("Elu"),
    "EXP": _unary("Exp"),
    "HARD_SWISH": _unary("HardSwish"),
    "LEAKY_RELU": leaky_relu,
    "LOG": _unary("Log"),
    "LOGISTIC": _unary("Sigmoid"),
    "MAXIMUM": _binary("Max"),
    "MINIMUM": _binary("Min"),
    "MUL": _binary("Mul"),
    "NEG": _unary("Neg"),
    "PRELU": prelu,
    "RELU": _unary("Relu"),
    "RELU6": _unary("Clip", 0.0, 6.0),
    "RELU_0_TO_1": _unary("Clip", 0.0, 1.0),
    "RELU_N1_TO_1": _unary("Clip", -1.0, 1.0),
    "SQRT": _unary("Sqrt"),
    "SUB": _binary("Sub"),
    "TANH": _unary("Tanh"),
}
