"""Integer inputs and outputs: asked for on the float model, carried out by `quantize`.

The wish is kept in the model's metadata, so that it survives serialisation and optimisation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from onnx import ModelProto

from furiosa.quantizer.names import get_output_names, get_pure_input_names
from furiosa.quantizer.qparams import checked_range

_INPUT: Final = "furiosa.quantizer.input."
_OUTPUT: Final = "furiosa.quantizer.output."


class TensorType(IntEnum):
    """Source: reference of the quantizer, section 3."""

    UINT8 = 1
    INT8 = 2


@dataclass(frozen=True, slots=True)
class OutputEdit:
    """`range`: what the output's integers cover; None keeps the calibrated range."""

    type: TensorType
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Edits:
    """Inputs and outputs, by name, that are to be integers."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, OutputEdit]


class ModelEditor:
    """Changes the types of a model's inputs and outputs. Edits the given model in place.

    Pass the same model to `quantize` afterwards. Source: reference of the quantizer, section 3.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model

    def convert_input_type(self, tensor_name: str, tensor_type: TensorType) -> None:
        """Let the quantised model take the input's integers, without a QuantizeLinear.

        Only UINT8: real = scale * (stored - zero point), with the range calibrated for the input; for
        pixels calibrated as 0..1 the integers are the pixels 0..255.
        Raises: ValueError for another type or an unknown input.
        """
        if tensor_name not in get_pure_input_names(self._model):
            # the text of the reference, which lacks a "not": programs may look for it
            raise ValueError(f"Could find a pure input tensor named '{tensor_name}'.")
        if tensor_type != TensorType.UINT8:
            name = TensorType(tensor_type).name
            raise ValueError(f"ModelEditor.convert_input_type does not support {name} yet.")
        self._note(_INPUT + tensor_name, TensorType.UINT8.name)

    def convert_output_type(
        self,
        tensor_name: str,
        tensor_type: TensorType,
        tensor_range: Sequence[float] | None = None,
    ) -> None:
        """Let the quantised model give the output's integers, without a DequantizeLinear.

        `tensor_range` is the (minimum, maximum) they cover; None keeps the calibrated one.
        Raises: ValueError for an unknown output or a range that is none.
        """
        if tensor_name not in get_output_names(self._model):
            raise ValueError(f"Could not find an output tensor named '{tensor_name}'.")
        words = [TensorType(tensor_type).name]
        if tensor_range is not None:
            words += [repr(end) for end in checked_range(tensor_name, tensor_range)]
        self._note(_OUTPUT + tensor_name, " ".join(words))

    def _note(self, key: str, value: str) -> None:
        for entry in self._model.metadata_props:
            if entry.key == key:
                entry.value = value
                return
        self._model.metadata_props.add(key=key, value=value)


def take_edits(model: ModelProto) -> Edits:
    """What an editor has noted in the model; removes the notes."""
    inputs: dict[str, TensorType] = {}
    outputs: dict[str, OutputEdit] = {}
    others = []
    for entry in model.metadata_props:
        if entry.key.startswith(_INPUT):
            inputs[entry.key.removeprefix(_INPUT)] = TensorType[entry.value]
        elif entry.key.startswith(_OUTPUT):
            kind, *ends = entry.value.split()
            edit = OutputEdit(TensorType[kind], (float(ends[0]), float(ends[1])) if ends else None)
            outputs[entry.key.removeprefix(_OUTPUT)] = edit
        else:
            others.append(entry)
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    return Edits(inputs, outputs)
