"""Let the caller get images in the NPU layout."""

import logging
from dataclasses import replace
from typing import ClassVar

import numpy as np

from furiosa.compiler.dfg.boundary import IMAGE, Boundary, is_stored_image
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.npu_layout import AXES, NpuLayout
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import PortForm, Value, constant

_log = logging.getLogger(__name__)


class RemoveUnlower(Pass[Dfg]):
    """With `remove_unlower`: each output that is an image of 8-bit numbers, or dequantised from one,
    becomes an 8-bit output in the NPU layout. The padding holds the zero point.

    Other outputs stay as they are. Source: docs/compiler/options.md.
    """

    name: ClassVar[str] = "remove-unlower"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        if not options.config.remove_unlower:
            return PassResult(graph, False)
        boundary = Boundary(graph.copy())
        images = {port: _image(boundary, port) for port in graph.outputs}
        for port, image in images.items():
            if image is None:
                _log.debug("output %s stays as it is: it is no image of 8-bit numbers", port)
            else:
                _unlower(boundary, port, image, options.pes)
        if not any(images.values()):
            return PassResult(graph, False)
        return PassResult(boundary.finish(), True)


def _image(boundary: Boundary, port: str) -> Value | None:
    """The stored image that an output is, or is dequantised from."""
    graph = boundary.graph
    value = graph.values[port]
    producer = graph.producers()[port]
    if producer.op == "Dequantize":
        value = graph.values[producer.inputs[0]]
    known = sorted(boundary.axes(port)) == sorted(IMAGE)
    return value if known and is_stored_image(value) else None


def _unlower(boundary: Boundary, port: str, stored: Value, pes: int) -> None:
    graph = boundary.graph
    axes = boundary.axes(port)
    order = tuple(axes.index(letter) for letter in IMAGE)  # image[i] is axis order[i] of the port
    shape = tuple(stored.shape[axis] for axis in order)
    layout = NpuLayout.of(shape, graph.model.batch, pes)
    inner = _renamed(boundary, port)
    source = inner if stored.name == port else stored.name
    image = _as_image(boundary, port, source, stored, order)
    if layout.padding:
        image = _padded(boundary, port, image, stored, layout)
    graph.add(replace(stored, name=port, shape=layout.shape))
    graph.model = graph.model.with_form(PortForm(port, AXES, layout.extent))
    boundary.after.append(boundary.node(port, "Reshape", (image,), port))


def _renamed(boundary: Boundary, port: str) -> str:
    """The output under a name of its own; what makes it goes when nothing reads it any more."""
    graph = boundary.graph
    inner = boundary.value(graph.values[port], f"{port}/inner", graph.values[port].shape)
    boundary.rename(port, inner)
    is_read = any(inner in node.inputs for node in graph.nodes)
    graph.nodes = [
        replace(node, outputs=tuple(inner if name == port else name for name in node.outputs))
        for node in graph.nodes
        if is_read or not _is_dequantize_of(node, port)
    ]
    return inner


def _is_dequantize_of(node: Node, port: str) -> bool:
    return node.op == "Dequantize" and node.outputs == (port,)


def _as_image(
    boundary: Boundary, port: str, source: str, stored: Value, order: tuple[int, ...]
) -> str:
    if order == (0, 1, 2, 3):
        return source
    # a model in another order ends with a Transpose out of the image
    producer = boundary.graph.producers().get(source)
    back = tuple(order.index(axis) for axis in range(4))
    if producer and producer.op == "Transpose" and producer.attributes.get("perm") == back:
        return producer.inputs[0]
    shape = tuple(stored.shape[axis] for axis in order)
    image = boundary.value(stored, f"{source}/image", shape)
    boundary.after.append(boundary.node(port, "Transpose", (source,), image, perm=order))
    return image


def _padded(boundary: Boundary, port: str, image: str, stored: Value, layout: NpuLayout) -> str:
    graph, whole = boundary.graph, stored.whole
    assert whole is not None  # an image of 8-bit numbers has one scale
    name = boundary.value(stored, f"{image}/padded", layout.padded)
    pads = boundary.numbers(f"{name}/pads", (0, 0, 0, 0, 0, 0, 0, layout.padding))
    point = np.array(whole.zero_point, stored.dtype.numpy)
    number = graph.add(constant(graph.fresh(f"{name}/point"), point))
    boundary.after.append(boundary.node(port, "Pad", (image, pads, number), name, mode="constant"))
    return name
