"""Any opset we read to one that the compiler keeps: one function for each operator that changed, one table.

Operators that are not in the table have the same inputs, attributes and meaning in opset 13 as in every
opset from 7 on; opset 22 differs from 21 in nothing but bfloat16, which is refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx

from furiosa.compiler.frontend.model import opset_of
from furiosa.compiler.frontend.qlinear import OLD_AXIS
from furiosa.compiler.frontend.rewrite import ANEW, Rewrite, Site, rewrite
from furiosa.compiler.frontend.shapes import MAX_ELEMENTS

OLDEST: Final = 13  # of the opsets that are kept
NEWEST: Final = 21  # the newest one of host sections


def settle(model: onnx.ModelProto) -> bool:
    """Bring a model to an opset from OLDEST to NEWEST, in place; whether nodes changed.

    Raises: InvalidModel, naming the node that has no exact equal there.
    """
    found = opset_of(model)
    table = {name: change for name, (until, change) in CHANGED.items() if found < until}
    done = rewrite(model, {**ALWAYS, **table})
    del model.opset_import[:]
    model.opset_import.add(version=min(max(found, OLDEST), NEWEST))
    return done


def batch_normalization(site: Site) -> None:
    if site.integer("spatial", 1) != 1:
        raise site.refuse("its statistics are not per channel (spatial is 0)", ANEW)
    if site.integer("training_mode", 0):
        raise site.refuse("it is in training mode", "export the model for inference")
    _keep_one_output(site, "its statistics are read")
    site.finish("BatchNormalization", site.operands(5, 5), site.without("spatial", "training_mode"))


def clip(site: Site) -> None:
    """Bounds left out are the largest numbers, beyond which there is infinity."""
    dtype = _dtype(site)
    limits = np.finfo(dtype)
    with np.errstate(over="ignore"):
        low, high = (
            np.array(site.number(name, float(default))).astype(dtype)
            for name, default in (("min", limits.min), ("max", limits.max))
        )
    bounds = [site.constant(low, "min"), site.constant(high, "max")]
    site.finish("Clip", [*site.operands(1, 1), *bounds])


def dropout(site: Site) -> None:
    """It does nothing at inference; the mask goes when nothing reads it."""
    source, _, training = site.operands(1, 3)
    mode = site.draft.data(training)
    if training and (mode is None or mode.any()):
        raise site.refuse("it is in training mode", "export the model for inference")
    _keep_one_output(site, "its mask is read")
    site.finish("Identity", [source])


def pad(site: Site) -> None:
    pads = site.ints("pads")
    if pads is None:
        raise site.refuse("it has no pads", ANEW)
    inputs = [*site.operands(1, 1), _integers(site, pads, "pads")]
    if value := site.number("value", 0.0):
        inputs.append(site.constant(np.array(value, _dtype(site)), "value"))
    site.finish("Pad", inputs, site.without("pads", "value"))


def resize(site: Site) -> None:
    """Upsample, and Resize of opset 10: output pixel i lies at i / scale of the input.

    Between two pixels, nearest is the left one when the image grows. When it shrinks there is more than
    one reading, so that is refused.
    """
    if (scales := site.attributes.get("scales")) is None:
        data = site.draft.data(site.operands(2, 2)[1])
        if data is None:
            raise site.refuse("its scales are not constant", "make the scales a constant")
        factors = data.astype(np.float32)
    else:
        factors = np.array(scales, np.float32)
    if (mode := site.attributes.get("mode", "nearest")) not in ("nearest", "linear"):
        raise site.refuse(f"its mode is '{mode}'", "use nearest or linear")
    if not (factors >= 1).all():
        raise site.refuse(
            f"it shrinks, by the factors {factors.tolist()}",
            "export the model with opset 11 or later",
        )
    inputs = [site.node.input[0], "", site.constant(factors, "scales")]
    site.finish(
        "Resize",
        inputs,
        {
            "coordinate_transformation_mode": "asymmetric",
            "mode": mode,
            "nearest_mode": "floor",
        },
    )


def scatter(site: Site) -> None:
    site.finish("ScatterElements", site.operands(3, 3), site.attributes)


def slice_(site: Site) -> None:
    starts, ends, axes = (site.ints(name) for name in ("starts", "ends", "axes"))
    if starts is None or ends is None:
        raise site.refuse("it has no starts or no ends", ANEW)
    inputs = site.operands(1, 1)
    for name, held in (("starts", starts), ("ends", ends), ("axes", axes)):
        if held is not None:
            inputs.append(_integers(site, held, name))
    site.finish("Slice", inputs)


def softmax(site: Site) -> None:
    """Softmax, LogSoftmax and Hardmax took all dimensions from the axis on as one."""
    (source,) = site.operands(1, 1)
    operator = site.node.op_type
    if not site.integer(OLD_AXIS, 1):
        return site.finish(operator, [source], site.without(OLD_AXIS))
    shape = _shape(site)
    start = site.integer("axis", 1) % max(len(shape), 1)
    wide = [axis for axis in range(start, len(shape)) if shape[axis] > 1]
    if len(wide) < 2:
        return site.finish(operator, [source], {"axis": wide[0] if wide else start})
    rows = math.prod(shape[:start]), math.prod(shape[start:])
    source = site.add("Reshape", [source, _integers(site, rows, "rows")], hint="flat")
    source = site.add(operator, [source], {"axis": 1})
    return site.finish("Reshape", [source, _integers(site, shape, "shape")], hint="shape")


def softmax_of_qlinear(site: Site) -> None:
    """In opset 13 and later only what QLinearSoftmax became may have the old meaning, and says so."""
    softmax(replace(site, attributes={OLD_AXIS: 0, **site.attributes}))


def split(site: Site) -> None:
    _to_input(site, "split")


def axes(site: Site) -> None:
    """ReduceSum, Squeeze, Unsqueeze."""
    _to_input(site, "axes")


def top_k(site: Site) -> None:
    k = _integers(site, [site.integer("k", 0)], "k")
    site.finish("TopK", [*site.operands(1, 1), k], site.without("k"))


def _keep_one_output(site: Site, found: str) -> None:
    if any(name in site.draft.read for name in site.node.output[1:] if name):
        raise site.refuse(found, "take what reads it out of the model")
    del site.node.output[1:]


def _to_input(site: Site, name: str) -> None:
    inputs = site.operands(1, 1)
    if held := site.ints(name):
        inputs.append(_integers(site, held, name))
    site.finish(site.node.op_type, inputs, site.without(name))


def _integers(site: Site, numbers: Sequence[int], hint: str) -> str:
    return site.constant(np.array(numbers, np.int64), hint)


def _shape(site: Site) -> tuple[int, ...]:
    """Of the first input. Raises: InvalidModel when it is not static, or huge."""
    kind = site.draft.types.get(site.node.input[0])
    if kind is not None and kind.HasField("shape"):
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        if all(size > 0 for size in shape) and math.prod(shape) <= MAX_ELEMENTS:
            return shape
    raise site.refuse("the shape of its input is unknown or huge", "export the model with opset 13")


def _dtype(site: Site) -> type[np.floating]:
    """Of the first input; operators of these opsets take floats only, and we no doubles."""
    kind = site.draft.types.get(site.node.input[0])
    half = kind is not None and kind.elem_type == onnx.TensorProto.FLOAT16
    return np.float16 if half else np.float32


# operator: the opset in which it got its new form, and the function that gives it that form
CHANGED: Final[Mapping[str, tuple[int, Rewrite]]] = {
    "BatchNormalization": (9, batch_normalization),
    "Clip": (11, clip),
    "Dropout": (12, dropout),
    "Hardmax": (13, softmax),
    "LogSoftmax": (13, softmax),
    "Pad": (11, pad),
    "ReduceSum": (13, axes),
    "Resize": (11, resize),
    "Scatter": (11, scatter),
    "Slice": (10, slice_),
    "Softmax": (13, softmax),
    "Split": (13, split),
    "Squeeze": (13, axes),
    "TopK": (10, top_k),
    "Unsqueeze": (13, axes),
    "Upsample": (10, resize),
}
# what is brought into one form whatever the opset
ALWAYS: Final[Mapping[str, Rewrite]] = {
    "BatchNormalization": batch_normalization,
    "Dropout": dropout,
    "Softmax": softmax_of_qlinear,
}
