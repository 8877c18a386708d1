"""One TensorFlow Lite operator as its import sees it: operands, options, result, refusals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.fold_kernels import dequantize
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.tflite.builder import Builder, Layout, place, refusal
from furiosa.compiler.frontend.tflite.file import Operator, Option, Tensor
from furiosa.compiler.value import Array, Attribute

_ANEW: Final = "export the model anew"
Activation = tuple[str, tuple[float, ...]]
_ACTIVATIONS: Final[Mapping[Option, Activation | None]] = {
    0: None,
    1: ("Relu", ()),
    2: ("Clip", (-1.0, 1.0)),
    3: ("Clip", (0.0, 6.0)),
}
_ACTIVATION_NAMES: Final = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


@dataclass(frozen=True, slots=True)
class Import:
    """One operator on its way into the builder's graph."""

    builder: Builder
    operator: Operator

    def refuse(self, found: str, hint: str = _ANEW) -> InvalidModel:
        return refusal(self.operator, found, hint)

    def inputs(self, least: int, most: int) -> list[Tensor | None]:
        """Its input tensors, None for one left out; as many as `most`, of which `least` are there."""
        given = self.operator.inputs
        if not least <= len(given) <= most or -1 in given[:least]:
            raise self.refuse(f"it has inputs {list(given)}, needs {least} to {most}")
        found: list[Tensor | None] = [
            None if index == -1 else self.builder.tensors[index] for index in given
        ]
        return found + [None] * (most - len(given))

    def operands(self, count: int) -> list[Tensor]:
        return [tensor for tensor in self.inputs(count, count) if tensor is not None]

    @property
    def result(self) -> Tensor:
        return self.results[0]

    @property
    def results(self) -> list[Tensor]:
        return [self.builder.tensors[index] for index in self.operator.outputs]

    @property
    def batch(self) -> int:
        return self.builder.graph.model.batch

    def axis(self, axis: int, rank: int) -> int:
        """The axis counted from the beginning. Raises: InvalidModel for one that is not there."""
        if not -rank <= axis < rank:
            raise self.refuse(f"its axis is {axis} of {rank}")
        return axis % rank

    def unmixed(self, axis: int) -> None:
        """Refuse to work along axis 0 when that is the entries of a batch."""
        if axis == 0 and self.batch > 1:
            raise self.refuse("it mixes the entries of a batch", "compile it with batch size 1")

    def option(self, name: str) -> int:
        return int(self.operator.options.get(name, 0))

    @property
    def activation(self) -> Activation | None:
        number = self.option("FusedActivationFunction")
        if number not in _ACTIVATIONS:
            known = 0 <= number < len(_ACTIVATION_NAMES)
            name = _ACTIVATION_NAMES[number] if known else str(number)
            raise self.refuse(f"its activation is {name}", "use RELU, RELU6 or none")
        return _ACTIVATIONS[number]

    def expect(self, shape: tuple[int, ...]) -> None:
        """Refuse a result that is declared with another shape."""
        if self.result.shape != shape:
            raise self.refuse(
                f"its result '{self.result.name}' has shape {list(self.result.shape)}, its operands "
                f"make {list(shape)}"
            )

    def numbers(self, tensor: Tensor) -> Array:
        if tensor.data is None or tensor.dtype not in (DType.INT32, DType.INT64):
            raise self.refuse(f"its input '{tensor.name}' is not constant integers", "make it so")
        return tensor.data

    def scalar(self, tensor: Tensor) -> str:
        """The real value of a constant of one number."""
        assert tensor.data is not None
        real = tensor.data.astype(np.float32)
        if tensor.quantization is not None:
            real = dequantize(tensor.data, tensor.quantization)
        return self.builder.constant(f"{tensor.name}/real", real.reshape(()))

    def image(self, tensor: Tensor) -> None:
        if len(tensor.shape) != 4:
            raise self.refuse(f"'{tensor.name}' has {len(tensor.shape)} dimensions, not 4")

    def same_parameters(self, tensor: Tensor) -> bool:
        """Whether numbers stored for `tensor` mean the same in the result."""
        result = self.result
        return (tensor.dtype, tensor.quantization) == (result.dtype, result.quantization)

    def compute(
        self,
        op: str,
        inputs: tuple[str, ...],
        layout: Layout,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        activation: Activation | None = None,
        shape: tuple[int, ...] | None = None,
        result: Tensor | None = None,
    ) -> None:
        """As the builder's; `result` is the first unless given."""
        self.builder.compute(
            self.operator,
            op,
            inputs,
            self.result if result is None else result,
            layout,
            attributes,
            activation=activation,
            shape=shape,
        )

    def chosen(self, source: Tensor, indices: Mapping[int, Array], layout: Layout) -> None:
        """Along each axis the elements that `indices` names, in turn."""
        name = self.builder.real(self.operator, source, layout)
        if not indices:
            return self.compute("Identity", (name,), layout)
        *others, last = [
            (
                self.builder.constant(f"{self.result.name}/indices", numbers.astype(np.int64)),
                place(layout, axis),
                numbers.shape,
            )
            for axis, numbers in indices.items()
        ]
        for held, axis, count in others:
            shape = self.builder.graph.values[name].shape
            made = self.builder.value(
                f"{self.result.name}/gather", (*shape[:axis], *count, *shape[axis + 1 :])
            )
            self.builder.add(self.operator, "Gather", (name, held), made, {"axis": axis})
            name = made
        return self.compute("Gather", (name, last[0]), layout, {"axis": last[1]})
