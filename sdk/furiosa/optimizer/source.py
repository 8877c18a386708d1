"""Read a model and settle the shapes of its inputs: what comes before anything else."""

import os
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from onnx import ModelProto, ValueInfoProto
from onnx.inliner import inline_local_functions

from furiosa.common.model_files import read_model

Source = ModelProto | bytes | str | os.PathLike[str]

IR_VERSION = 8  # the last one of opset 13's generation that every supported onnxruntime reads


def load(source: Source) -> ModelProto:
    """A model of the caller's own, whatever it came from; weights in files of their own are read in.

    Raises: ValueError when it is not an ONNX model; OSError when a path cannot be read.
    """
    try:
        if isinstance(source, ModelProto):
            model = ModelProto()
            model.CopyFrom(source)
        elif isinstance(source, bytes):
            model = ModelProto.FromString(source)
        else:
            model = ModelProto.FromString(read_model(source))
    except DecodeError as error:
        raise ValueError("the data is not an ONNX model") from error
    if not model.graph.output:
        raise ValueError("the data is not an ONNX model: it has no outputs")
    if model.functions:
        model = inline_local_functions(model)
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = IR_VERSION
    return model


def fix_input_shapes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Make every input static, in place: by `shapes`, else a dynamic first dimension becomes 1.

    A named dimension gets the same size wherever the model mentions it.
    Raises: RuntimeError for an input that stays dynamic; ValueError for shapes that do not fit.
    Source: reference of the optimizer, section 2.
    """
    unknown = set(shapes) - {i.name for i in model.graph.input}
    if unknown:
        raise ValueError(f"the model has no input {sorted(unknown)[0]!r} to give a shape to")
    sizes: dict[str, int] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        names = [d.dim_param for d in kind.shape.dim]
        after = _static_shape(value, shapes.get(value.name))
        sizes.update({name: size for name, size in zip(names, after, strict=False) if name})
        del kind.shape.dim[:]
        kind.shape.SetInParent()
        for size in after:
            kind.shape.dim.add(dim_value=size)
    for value in (*model.graph.value_info, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _static_shape(value: ValueInfoProto, given: Sequence[int] | None) -> tuple[int, ...]:
    kind = value.type.tensor_type
    known = [d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim]
    if given is not None:
        fits = all(size >= 1 for size in given) and (
            not kind.HasField("shape")
            or (
                len(given) == len(known)
                and all(old in (None, new) for old, new in zip(known, given, strict=True))
            )
        )
        if not fits:
            shown = ", ".join("?" if size is None else str(size) for size in known)
            raise ValueError(
                f"shape {list(given)} does not fit input {value.name!r}, which is [{shown}]"
            )
        return tuple(int(size) for size in given)
    if known and known[0] is None:
        known[0] = 1
    if not kind.HasField("shape") or None in known:
        raise RuntimeError(f'the static shape of input "{value.name}" must be given')
    return tuple(size for size in known if size is not None)
