"""The dfg under construction, and in which layout each tensor of the model is there already.

TensorFlow Lite keeps images as NHWC, dfg as NCHW. A tensor is brought into the other layout when an
operator asks for it and not before, so between operators on images nothing is moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np

from furiosa.common.model_limits import MAX_MODEL_BYTES
from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.tflite.file import Operator, Tensor
from furiosa.compiler.value import Array, Attribute, QuantParams, Value, constant

Pads = tuple[int, int, int, int]  # top, left, bottom, right
EIGHT_BIT: Final = (DType.INT8, DType.UINT8)


class Layout(Enum):
    PLAIN = "plain"  # as the file has it
    IMAGE = "image"  # of rank 4: NCHW


def nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    n, h, w, c = shape
    return n, c, h, w


def place(layout: Layout, axis: int) -> int:
    """Where an axis of the file is in that layout."""
    return nchw((0, 1, 2, 3)).index(axis) if layout is Layout.IMAGE else axis


@dataclass(frozen=True, slots=True)
class Padded:
    """A tensor that is `source`, bordered by `pads` of the real number 0; not computed yet."""

    source: Tensor
    pads: Pads


class Builder:
    """Values and nodes by tensor and layout. Shapes of `tensors` have the batch size applied."""

    def __init__(self, graph: Dfg, tensors: Mapping[int, Tensor]) -> None:
        self.graph = graph
        self.tensors = dict(tensors)
        self._left = MAX_MODEL_BYTES  # for constants: one tensor of the file can be named often
        self.padded: dict[int, Padded] = {}
        self.views: dict[int, Tensor] = {}  # same elements in the same order as the tensor given
        self._names: dict[tuple[int, Layout], str] = {}
        self._reals: dict[str, str] = {}
        self._nodes: set[str] = set()

    def has(self, tensor: Tensor, layout: Layout | None = None) -> bool:
        """Whether the tensor is known, in this layout without further work."""
        if layout is not None:
            return (tensor.index, layout) in self._names
        known = (self.padded, self.views)
        return (
            tensor.data is not None
            or any(tensor.index in table for table in known)
            or any(self.has(tensor, one) for one in Layout)
        )

    def layout_of(self, *tensors: Tensor) -> Layout:
        """The layout in which most of them, but for constants, are there already; all have one rank."""
        images = [
            tensor.index in self.padded or self.has(tensor, Layout.IMAGE)
            for tensor in tensors
            if tensor.data is None and len(tensor.shape) == 4
        ]
        return Layout.IMAGE if 2 * sum(images) > len(images) else Layout.PLAIN

    def widened(self, tensor: Tensor, rank: int) -> Tensor:
        """The constant `tensor` with axes of one element in front."""
        assert tensor.data is not None
        missing = rank - len(tensor.shape)
        if not missing:
            return tensor
        shape = (1,) * missing + tensor.shape
        params = tensor.quantization
        if params is not None and params.axis is not None:
            params = replace(params, axis=params.axis + missing)
        index = max(self.tensors) + 1
        wide = replace(
            tensor, index=index, shape=shape, quantization=params, data=tensor.data.reshape(shape)
        )
        self.tensors[index] = wide
        return wide

    def add(
        self,
        operator: Operator,
        op: str,
        inputs: tuple[str, ...],
        output: str,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        name, number = operator.name, 0
        while name in self._nodes:
            number += 1
            name = f"{operator.name}/{op.lower()}{number if number > 1 else ''}"
        self._nodes.add(name)
        node = Node(name, op, inputs, (output,), attributes or {}, (operator.name,))
        self.graph.nodes.append(node)

    def value(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DType = DType.FLOAT32,
        quantization: QuantParams | None = None,
    ) -> str:
        """A new value, named after `name`."""
        return self.graph.add(Value(self.graph.fresh(name), dtype, shape, quantization))

    def constant(self, name: str, data: Array, quantization: QuantParams | None = None) -> str:
        self._charge(data.nbytes)
        return self.graph.add(constant(self.graph.fresh(name), data, quantization))

    def settle(self, tensor: Tensor, data: Array) -> None:
        """Make `tensor`, the result of an operator on constants, a constant."""
        self._charge(data.nbytes)
        self.tensors[tensor.index] = replace(tensor, data=data)

    def _charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise InvalidModel(
                f"its constants take more than {MAX_MODEL_BYTES} bytes", "make the model smaller"
            )

    def define(self, tensor: Tensor, layout: Layout) -> str:
        """The value that is `tensor` in that layout, for a node about to be added."""
        image = layout is Layout.IMAGE
        name = self.value(
            f"{tensor.name}/nchw" if image else tensor.name,
            nchw(tensor.shape) if image else tensor.shape,
            tensor.dtype,
            tensor.quantization,
        )
        self._names[tensor.index, layout] = name
        return name

    def stored(self, operator: Operator, tensor: Tensor, layout: Layout) -> str:
        """The value that is `tensor` in that layout, brought into it where need be."""
        if not self.has(tensor, layout):
            self._make(operator, tensor, layout)
        return self._names[tensor.index, layout]

    def _make(self, operator: Operator, tensor: Tensor, layout: Layout) -> None:
        image = layout is Layout.IMAGE
        other = Layout.PLAIN if image else Layout.IMAGE
        if tensor.data is not None:
            data = tensor.data.transpose(0, 3, 1, 2) if image else tensor.data
            name = f"{tensor.name}/nchw" if image else tensor.name
            quantization = tensor.quantization if not image else _moved(tensor.quantization)
            self._names[tensor.index, layout] = self.constant(name, data, quantization)
        elif tensor.index in self.padded:
            self._pad(operator, tensor, self.padded.pop(tensor.index))
            self.stored(operator, tensor, layout)
        elif self.has(tensor, other):
            source = self._names[tensor.index, other]
            result = self.define(tensor, layout)
            _, h, w, c = tensor.shape
            if h * w == 1 or c == 1:  # the same order of elements
                self.add(operator, "Reshape", (source,), result)
            else:
                perm = (0, 3, 1, 2) if image else (0, 2, 3, 1)
                self.add(operator, "Transpose", (source,), result, {"perm": perm})
        elif tensor.index in self.views:
            source = self.stored(operator, self.views[tensor.index], Layout.PLAIN)
            self.add(operator, "Reshape", (source,), self.define(tensor, Layout.PLAIN))
            self.stored(operator, tensor, layout)
        else:
            raise refusal(
                operator,
                f"it reads tensor '{tensor.name}', which nothing has made",
                "export it anew",
            )

    def _pad(self, operator: Operator, tensor: Tensor, padded: Padded) -> None:
        top, left, bottom, right = padded.pads
        pads = np.array((0, 0, top, left, 0, 0, bottom, right), np.int64)
        source = self.real(operator, padded.source, Layout.IMAGE)
        inputs = source, self.constant(f"{tensor.name}/pads", pads)
        self.compute(operator, "Pad", inputs, tensor, Layout.IMAGE)

    def dequantize(
        self, operator: Operator, source: Tensor, result: Tensor, layout: Layout
    ) -> None:
        """`result` is the float32 value of `source`."""
        stored = self.stored(operator, source, layout)
        self._check_stored(operator, stored)
        self.add(operator, "Dequantize", (stored,), self.define(result, layout))

    def real(self, operator: Operator, tensor: Tensor, layout: Layout) -> str:
        """The float32 value of `tensor` in that layout."""
        return self.dequantized(operator, self.stored(operator, tensor, layout))

    def dequantized(self, operator: Operator, name: str) -> str:
        """The float32 value of a stored value. Raises: InvalidModel for one that stands for none."""
        value = self.graph.values[name]
        if value.dtype is DType.FLOAT32:
            return name
        self._check_stored(operator, name)
        if name not in self._reals:
            self._reals[name] = self.value(f"{name}/real", value.shape)
            self.add(operator, "Dequantize", (name,), self._reals[name])
        return self._reals[name]

    def _check_stored(self, operator: Operator, name: str) -> None:
        value = self.graph.values[name]
        known = value.whole is not None if value.data is None else value.quantization is not None
        if not known or (value.data is None and value.dtype not in EIGHT_BIT):
            raise refusal(
                operator,
                f"it reads '{name}', which is {value.dtype.value}"
                + (" without a scale" if value.quantization is None else ""),
                "give it float32, or int8 or uint8 with one scale",
            )

    def compute(
        self,
        operator: Operator,
        op: str,
        inputs: tuple[str, ...],
        result: Tensor,
        layout: Layout,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        activation: tuple[str, tuple[float, ...]] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """One operator on real numbers, then its activation, then the tensor's quantisation.

        `shape` is what the operator makes where that is not the shape of the result.
        """
        final = self.define(result, layout)
        value = self.graph.values[final]
        if value.dtype is not DType.FLOAT32 and (
            value.whole is None or value.dtype not in EIGHT_BIT
        ):
            raise refusal(
                operator,
                f"its result '{result.name}' is {value.dtype.value}"
                + ("" if value.quantization else " without a scale"),
                "let it make float32 or int8 or uint8 with one scale",
            )
        shape = value.shape if shape is None else shape
        chain = [(op, inputs, dict(attributes or {}))]
        if activation is not None:
            bounds = [np.array(bound, np.float32) for bound in activation[1]]
            names = tuple(self.constant(f"{result.name}/bound", bound) for bound in bounds)
            chain.append((activation[0], names, {}))
        made = ""
        for index, (kind, reads, given) in enumerate(chain):
            last = index == len(chain) - 1
            direct = last and value.dtype is DType.FLOAT32 and shape == value.shape
            target = final if direct else self.value(f"{result.name}/{kind.lower()}", shape)
            self.add(operator, kind, (made, *reads) if made else reads, target, given)
            made = target
        if value.dtype is not DType.FLOAT32:
            whole = shape == value.shape
            target = final if whole else self._like(value, shape)
            self.add(operator, "Quantize", (made,), target)
            made = target
        if made != final:
            self.add(operator, "Reshape", (made,), final)

    def _like(self, value: Value, shape: tuple[int, ...]) -> str:
        return self.graph.add(
            replace(value, name=self.graph.fresh(f"{value.name}/as"), shape=shape, data=None)
        )

    def reshaped(self, operator: Operator, name: str, shape: tuple[int, ...]) -> str:
        """The value `name` in another shape."""
        value = self.graph.values[name]
        if value.shape == shape:
            return name
        result = self._like(value, shape)
        self.add(operator, "Reshape", (name,), result)
        return result


def _moved(params: QuantParams | None) -> QuantParams | None:
    if params is None or params.axis is None:
        return params
    return replace(params, axis=(0, 2, 3, 1)[params.axis])


def refusal(operator: Operator, found: str, hint: str) -> InvalidModel:
    return InvalidModel(found, hint, operator.name, operator.kind)
