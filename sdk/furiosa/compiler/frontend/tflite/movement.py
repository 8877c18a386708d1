"""TensorFlow Lite operators that move elements. Axes are those of the file until they become attributes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from furiosa.compiler.frontend.tflite.builder import Layout, Padded, nchw, place
from furiosa.compiler.frontend.tflite.file import Tensor
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.value import Array

_REFLECT, _SYMMETRIC = 0, 1  # Source: MirrorPadMode of the schema


def reshape(item: Import) -> None:
    """The result's shape is all there is to know; what is stored stays."""
    source, _ = item.inputs(1, 2)
    assert source is not None
    shape = item.result.shape
    if math.prod(shape) != math.prod(source.shape) or source.dtype is not item.result.dtype:
        raise item.refuse(
            f"it makes {item.result.dtype.value}{list(shape)} of "
            f"{source.dtype.value}{list(source.shape)}"
        )
    item.builder.views[item.result.index] = item.builder.views.get(source.index, source)


def transpose(item: Import) -> None:
    """Into the layout in which nothing has to move, if there is one."""
    source, given = item.operands(2)
    axes = tuple(int(axis) for axis in item.numbers(given).ravel())
    if sorted(axes) != list(range(len(source.shape))):
        raise item.refuse(f"it moves axes {list(axes)} of {len(source.shape)}")
    if axes[:1] != (0,):
        item.unmixed(0)
    item.expect(tuple(source.shape[axis] for axis in axes))
    held = item.builder.layout_of(source)
    order = nchw((0, 1, 2, 3))
    layout, perm = Layout.PLAIN, axes
    if held is Layout.IMAGE:
        perm = tuple(order.index(axis) for axis in axes)
        image = tuple(order.index(axes[axis]) for axis in order)
        if image == (0, 1, 2, 3):
            layout, perm = Layout.IMAGE, image
    elif axes == (0, 2, 3, 1):  # a file that keeps images as NCHW
        layout, perm = Layout.IMAGE, (0, 1, 2, 3)
    name = item.builder.real(item.operator, source, held)
    if perm == tuple(range(len(perm))):
        item.compute("Identity", (name,), layout)
    else:
        item.compute("Transpose", (name,), layout, {"perm": perm})


def concatenation(item: Import) -> None:
    sources = item.operands(len(item.operator.inputs))
    rank = len(item.result.shape)
    if not sources or any(len(tensor.shape) != rank for tensor in sources) or not rank:
        raise item.refuse(f"its operands have shapes {[list(t.shape) for t in sources]}")
    axis = item.axis(item.option("Axis"), rank)
    item.unmixed(axis)
    shape = list(sources[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in sources)
    for tensor in sources:
        if [*tensor.shape[:axis], *tensor.shape[axis + 1 :]] != shape[:axis] + shape[axis + 1 :]:
            raise item.refuse(f"its operands have shapes {[list(t.shape) for t in sources]}")
    item.expect(tuple(shape))
    layout = item.builder.layout_of(*sources)
    names = tuple(item.builder.real(item.operator, tensor, layout) for tensor in sources)
    attributes = {"axis": place(layout, axis)}
    item.compute("Concat", names, layout, attributes, activation=item.activation)


def pack(item: Import) -> None:
    """Operands side by side along a new axis."""
    sources = item.operands(len(item.operator.inputs))
    rank = len(item.result.shape)
    axis = item.axis(item.option("Axis"), rank)
    item.unmixed(axis)
    shape = item.result.shape
    single = (*shape[:axis], *shape[axis + 1 :])
    if any(tensor.shape != single for tensor in sources) or len(sources) != shape[axis]:
        raise item.refuse(f"its operands have shapes {[list(t.shape) for t in sources]}")
    names = []
    for tensor in sources:
        name = item.builder.stored(item.operator, tensor, Layout.PLAIN)
        name = item.builder.reshaped(item.operator, name, (*shape[:axis], 1, *shape[axis + 1 :]))
        names.append(item.builder.dequantized(item.operator, name))
    item.compute("Concat", tuple(names), Layout.PLAIN, {"axis": axis})


def _cut(
    item: Import,
    source: Tensor,
    result: Tensor,
    chosen: Sequence[range],
    *,
    dropped: tuple[int, ...] = (),
) -> None:
    """Of each axis the elements `chosen`; axes `dropped` go afterwards."""
    sizes = tuple(len(part) for part in chosen)
    final = tuple(size for axis, size in enumerate(sizes) if axis not in dropped)
    if result.shape != final:
        raise item.refuse(f"'{result.name}' has shape {list(result.shape)}, not {list(final)}")
    layout = Layout.PLAIN if dropped else item.builder.layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    whole = item.builder.graph.values[name].shape
    cut = [
        (part.start, part.stop if part.stop >= 0 else -(2**31), place(layout, axis), part.step)
        for axis, part in enumerate(chosen)
        if part != range(source.shape[axis])
    ]
    shape = list(whole)
    for axis, size in enumerate(sizes):
        shape[place(layout, axis)] = size
    if not cut:
        item.compute("Identity", (name,), layout, shape=tuple(shape), result=result)
        return
    lists = tuple(
        item.builder.constant(f"{result.name}/{part}", np.array(column, np.int64))
        for part, column in zip(
            ("starts", "ends", "axes", "steps"), zip(*cut, strict=True), strict=True
        )
    )
    item.compute("Slice", (name, *lists), layout, shape=tuple(shape), result=result)


def slice_(item: Import) -> None:
    source, begins, _ = item.operands(3)
    starts = item.numbers(begins).ravel().tolist()
    if len(starts) != len(source.shape) or len(item.result.shape) != len(starts):
        raise item.refuse(f"it begins at {starts} of {list(source.shape)}")
    chosen = [
        range(start, start + size) for start, size in zip(starts, item.result.shape, strict=True)
    ]
    for part, size in zip(chosen, source.shape, strict=True):
        if part.start < 0 or part.stop > size:
            raise item.refuse(f"it takes {part.start} to {part.stop} of {size}")
    _cut(item, source, item.result, chosen)


def strided_slice(item: Import) -> None:
    """Python's slices. Bits of BeginMask and EndMask leave ends out, those of ShrinkAxisMask mark indices."""
    source, *given = item.operands(4)
    starts, ends, steps = (item.numbers(tensor).ravel().tolist() for tensor in given)
    rank = len(source.shape)
    if not len(starts) == len(ends) == len(steps) <= rank or 0 in steps:
        raise item.refuse(f"it takes {starts} to {ends} by {steps} of {list(source.shape)}")
    if item.option("EllipsisMask") or item.option("NewAxisMask") or item.option("Offset"):
        raise item.refuse("it has an ellipsis, a new axis or offsets", "index every axis")
    chosen = [range(size) for size in source.shape]
    dropped = []
    for axis, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True)):
        bit, size = 1 << axis, source.shape[axis]
        if item.option("ShrinkAxisMask") & bit:
            if not -size <= start < size:
                raise item.refuse(f"it takes element {start} of {size}")
            chosen[axis] = range(start % size, start % size + 1)
            dropped.append(axis)
            continue
        first = None if item.option("BeginMask") & bit else start
        last = None if item.option("EndMask") & bit else end
        chosen[axis] = range(size)[slice(first, last, step)]
    if item.batch > 1 and item.result.shape[:1] == source.shape[:1] and 0 not in dropped:
        chosen[0] = range(source.shape[0])  # its end is that of one inference
    if 0 in dropped:
        item.unmixed(0)
    _cut(item, source, item.result, chosen, dropped=tuple(dropped))


def split(item: Import) -> None:
    axis, source = item.operands(2)
    _split(item, source, axis)


def split_v(item: Import) -> None:
    source, _, axis = item.operands(3)
    _split(item, source, axis)


def _split(item: Import, source: Tensor, given: Tensor) -> None:
    """The sizes of the results say where to cut."""
    axis = item.axis(int(item.numbers(given).ravel()[0]), len(source.shape))
    item.unmixed(axis)
    first = 0
    for result in item.results:
        if len(result.shape) != len(source.shape):
            raise item.refuse(f"its result '{result.name}' has shape {list(result.shape)}")
        chosen = [range(size) for size in source.shape]
        chosen[axis] = range(first, first + result.shape[axis])
        first = chosen[axis].stop
        if first > source.shape[axis]:
            raise item.refuse(f"its results take {first} of {source.shape[axis]}")
        _cut(item, source, result, chosen)


def unpack(item: Import) -> None:
    (source,) = item.operands(1)
    axis = item.axis(item.option("Axis"), len(source.shape))
    item.unmixed(axis)
    if len(item.results) != source.shape[axis]:
        raise item.refuse(f"it makes {len(item.results)} of {source.shape[axis]}")
    for index, result in enumerate(item.results):
        chosen = [range(size) for size in source.shape]
        chosen[axis] = range(index, index + 1)
        _cut(item, source, result, chosen, dropped=(axis,))


def gather(item: Import) -> None:
    """Constant indices along one axis."""
    source, given = item.operands(2)
    indices = item.numbers(given)
    axis = item.axis(item.option("Axis"), len(source.shape))
    item.unmixed(axis)
    if item.option("BatchDims"):
        raise item.refuse(f"its batch_dims are {item.option('BatchDims')}", "only 0 is taken")
    if indices.min() < 0 or indices.max() >= source.shape[axis]:
        raise item.refuse(f"it takes element {indices.max()} of {source.shape[axis]}")
    item.expect((*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :]))
    layout = item.builder.layout_of(source) if indices.ndim == 1 else Layout.PLAIN
    item.chosen(source, {axis: indices.astype(np.int64)}, layout)


def _paddings(item: Import, source: Tensor, given: Tensor) -> Array:
    """[rank, 2]: elements before and after, on each axis."""
    pads = item.numbers(given)
    if pads.shape != (len(source.shape), 2) or pads.min() < 0:
        raise item.refuse(f"its padding is {pads.tolist()}")
    item.expect(
        tuple(size + a + b for size, (a, b) in zip(source.shape, pads.tolist(), strict=True))
    )
    if pads[0].any():
        item.unmixed(0)
    return pads


def pad(item: Import) -> None:
    """Zeros; a convolution that reads the result takes those around height and width as its own."""
    source, given = item.operands(2)
    pads = _paddings(item, source, given)
    if len(pads) == 4 and not pads[[0, 3]].any() and item.same_parameters(source):
        (top, bottom), (left, right) = pads[1:3].tolist()
        item.builder.padded[item.result.index] = Padded(source, (top, left, bottom, right))
    else:
        _padded(item, source, pads, ())


def padv2(item: Import) -> None:
    """A constant number."""
    source, given, number = item.operands(3)
    pads = _paddings(item, source, given)
    if number.data is None or number.data.size != 1:
        raise item.refuse(f"its value '{number.name}' is no constant number", "make it one")
    _padded(item, source, pads, (item.scalar(number),))


def _padded(item: Import, source: Tensor, pads: Array, number: tuple[str, ...]) -> None:
    layout = item.builder.layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    ordered = pads if layout is Layout.PLAIN else pads[list(nchw((0, 1, 2, 3)))]
    flat = item.builder.constant(f"{item.result.name}/pads", ordered.T.ravel().astype(np.int64))
    item.compute("Pad", (name, flat, *number), layout)


def mirror_pad(item: Import) -> None:
    """What is there, backwards: with the element at the edge (symmetric) or without (reflect)."""
    source, given = item.operands(2)
    pads = _paddings(item, source, given)
    mode = item.option("Mode")
    if mode not in (_REFLECT, _SYMMETRIC):
        raise item.refuse(f"its mode is {mode}")
    chosen = {}
    for axis, (size, pair) in enumerate(zip(source.shape, pads.tolist(), strict=True)):
        if max(pair) > size - (mode == _REFLECT):
            raise item.refuse(f"it mirrors {max(pair)} elements of {size}")
        if any(pair):
            chosen[axis] = np.pad(
                np.arange(size), pair, mode="symmetric" if mode == _SYMMETRIC else "reflect"
            )
    item.chosen(source, chosen, item.builder.layout_of(source))


def tile(item: Import) -> None:
    source, given = item.operands(2)
    repeats = item.numbers(given).ravel().tolist()
    if len(repeats) != len(source.shape) or min(repeats) < 1:
        raise item.refuse(f"it repeats {repeats} times")
    item.expect(tuple(size * n for size, n in zip(source.shape, repeats, strict=True)))
    chosen = {
        axis: np.tile(np.arange(source.shape[axis]), n) for axis, n in enumerate(repeats) if n > 1
    }
    if 0 in chosen:
        item.unmixed(0)
    item.chosen(source, chosen, item.builder.layout_of(source))


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "CONCATENATION": concatenation,
    "EXPAND_DIMS": reshape,
    "GATHER": gather,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": padv2,
    "RESHAPE": reshape,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}
