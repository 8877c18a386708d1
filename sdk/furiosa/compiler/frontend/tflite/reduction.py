"""TensorFlow Lite operators over all elements of some axes."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from furiosa.compiler.frontend.tflite.builder import Layout, nchw, place
from furiosa.compiler.frontend.tflite.item import Import

_AXES_AS_OPERAND: Final = ("ReduceSum",)  # from opset 13 on; the others take an attribute until 18


def _reduced(op: str) -> Callable[[Import], None]:
    def convert(item: Import) -> None:
        """In NCHW where the axes that stay are in the file's order there; else as the file has them."""
        source, given = item.operands(2)
        rank = len(source.shape)
        axes = sorted({item.axis(int(axis), rank) for axis in item.numbers(given).ravel()})
        if 0 in axes:
            item.unmixed(0)
        keep = bool(item.option("KeepDims"))
        ones = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
        item.expect(ones if keep else tuple(n for axis, n in enumerate(ones) if axis not in axes))
        held = item.builder.layout_of(source)
        left = [axis for axis in range(rank) if axis not in axes]
        ordered = held is Layout.PLAIN or [a for a in nchw((0, 1, 2, 3)) if a in left] == left
        if not keep and not ordered:
            held = Layout.PLAIN
        name = item.builder.real(item.operator, source, held)
        places = sorted(place(held, axis) for axis in axes)
        shape = nchw(ones) if held is Layout.IMAGE else ones
        layout = held if keep else Layout.PLAIN
        if op == "ReduceMean" and held is Layout.IMAGE and places == [2, 3]:
            item.compute("GlobalAveragePool", (name,), layout, shape=shape)
        elif op in _AXES_AS_OPERAND:
            numbers = np.array(places, np.int64)
            over = item.builder.constant(f"{item.result.name}/axes", numbers)
            item.compute(op, (name, over), layout, {"keepdims": 1}, shape=shape)
        else:
            item.compute(op, (name,), layout, {"axes": tuple(places), "keepdims": 1}, shape=shape)

    return convert


def softmax(item: Import) -> None:
    beta = item.operator.options.get("Beta", 0.0)
    if beta != 1:
        raise item.refuse(f"its beta is {beta}", "only 1 is taken")
    _along_last(item, "Softmax")


def log_softmax(item: Import) -> None:
    _along_last(item, "LogSoftmax")


def l2_normalization(item: Import) -> None:
    """Along the last axis, as TensorFlow Lite's kernels have it."""
    if item.activation is not None:
        raise item.refuse("it has an activation")
    _along_last(item, "LpNormalization")


def _along_last(item: Import, op: str) -> None:
    (source,) = item.operands(1)
    item.expect(source.shape)
    rank = len(source.shape)
    item.unmixed(rank - 1)
    layout = item.builder.layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    item.compute(op, (name,), layout, {"axis": place(layout, rank - 1)})


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "L2_NORMALIZATION": l2_normalization,
    "LOG_SOFTMAX": log_softmax,
    "MEAN": _reduced("ReduceMean"),
    "REDUCE_MAX": _reduced("ReduceMax"),
    "REDUCE_MIN": _reduced("ReduceMin"),
    "SOFTMAX": softmax,
    "SUM": _reduced("ReduceSum"),
}
