"""A TensorFlow Lite model as dfg, in the forms that the ONNX frontend makes."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.tflite.builder import Builder, Layout, refusal
from furiosa.compiler.frontend.tflite.file import Model, Operator, Tensor, read_tflite
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.frontend.tflite.operators import OPERATORS
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import ModelInfo, PortForm
from furiosa.enf.onnxgraph import DEFAULT_OPSET

_SEVERAL: Final = ("SPLIT", "SPLIT_V", "UNPACK")  # those with more than one result
_BROADCASTING: Final = ("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SUB")
_BATCH: Final = "compile it with batch size 1"


def import_tflite(data: bytes, options: CompilerOptions) -> Dfg:
    """The model with its inputs and outputs as the file has them, batch size applied, every value typed.

    Raises: InvalidFormat, InvalidModel. Needs nothing but the bytes.
    """
    model = read_tflite(data)
    _check_ports(model)
    batch = options.batch_size
    tensors = model.tensors if batch == 1 else _grown(model, batch)
    info = ModelInfo(model.name, DEFAULT_OPSET, batch, hashlib.sha256(data).digest())
    builder = Builder(Dfg(info, (), ()), tensors)
    inputs = tuple(builder.define(tensors[index], Layout.PLAIN) for index in model.inputs)
    for operator in model.operators:
        if operator.kind not in OPERATORS:
            raise refusal(
                operator,
                "this operator is not supported",
                f"build the model from {', '.join(sorted(OPERATORS))}",
            )
        _check_operator(builder, operator)
        if batch > 1:
            _check_batch(builder, model.tensors, operator)
        OPERATORS[operator.kind](Import(builder, operator))
    last = Operator(len(model.operators), "OUTPUT", model.outputs, (), {})
    outputs = tuple(builder.stored(last, tensors[i], Layout.PLAIN) for i in model.outputs)
    ports = (port for port in (*inputs, *outputs) if len(builder.graph.values[port].shape) == 4)
    info = replace(info, forms=tuple(PortForm(port, "NHWC") for port in ports))
    return replace(builder.graph, model=info, inputs=inputs, outputs=outputs)


def _check_ports(model: Model) -> None:
    if not model.operators or not model.outputs:
        raise InvalidModel("it has no operators or no outputs", "export what it is to compute")
    made = {index for operator in model.operators for index in operator.outputs}
    for what, ports in (("input", model.inputs), ("output", model.outputs)):
        for place, index in enumerate(ports):
            if index == -1 or index in ports[:place]:
                raise InvalidModel(f"its {what} {place} is missing or declared twice", "mend it")
            name = model.tensors[index].name
            if what == "input" and (model.tensors[index].data is not None or index in made):
                raise InvalidModel(f"input '{name}' is a constant or a result", "take it out")
            if what == "output" and index not in made:
                raise InvalidModel(f"output '{name}' is no operator's result", "take it out")


def _check_operator(builder: Builder, operator: Operator) -> None:
    count, several = len(operator.outputs), operator.kind in _SEVERAL
    if not count or (count > 1 and not several) or -1 in operator.outputs:
        wanted = "at least 1" if several else "1"
        raise refusal(operator, f"it has {count} outputs, not {wanted}", "export it anew")
    for place, index in enumerate(operator.outputs):
        result = builder.tensors[index]
        if builder.has(result) or index in operator.outputs[:place]:
            raise refusal(
                operator, f"it makes '{result.name}', which is there already", "export it anew"
            )
    for index in operator.inputs:
        if index != -1 and not builder.has(builder.tensors[index]):
            name = builder.tensors[index].name
            raise refusal(operator, f"it reads '{name}' before it is made", "export it anew")


def _grown(model: Model, batch: int) -> dict[int, Tensor]:
    """Every activation with dimension 0 times `batch`. What is dequantised of constants is none."""
    fixed = {index for index, tensor in model.tensors.items() if tensor.data is not None}
    for operator in model.operators:
        if operator.kind == "DEQUANTIZE" and fixed.issuperset(operator.inputs):
            fixed.update(operator.outputs)
    return {
        index: tensor
        if index in fixed or not tensor.shape
        else replace(tensor, shape=(tensor.shape[0] * batch, *tensor.shape[1:]))
        for index, tensor in model.tensors.items()
    }


def _check_batch(builder: Builder, tensors: Mapping[int, Tensor], operator: Operator) -> None:
    """Refuse an operator whose result for several inferences is not the results of each, stacked.

    `tensors` are those of one inference. Operators on images never mix images; what others could mix
    shows in dimension 0 and in ranks.
    """
    activations = [
        tensors[index]
        for index in (*operator.inputs, *operator.outputs)
        if index != -1 and builder.tensors[index].data is None
    ]
    if operator.kind == "DEQUANTIZE" and len(activations) == 1:
        return  # of a constant
    entries = {tensor.shape[:1] for tensor in activations}
    ranks = {len(tensor.shape) for tensor in activations}
    whole = ranks == {1} and operator.kind in ("SOFTMAX", "FULLY_CONNECTED")
    uneven = len(ranks) > 1 and operator.kind in _BROADCASTING
    if len(entries) > 1 or () in entries or whole or uneven:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in activations)
        raise refusal(operator, f"it mixes the entries of a batch: {shapes}", _BATCH)
