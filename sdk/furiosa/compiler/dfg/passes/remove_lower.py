"""Let the caller give images in the NPU layout."""

import logging
from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.dfg.boundary import IMAGE, Boundary, is_stored_image, quantized_input
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.npu_layout import AXES, NpuLayout
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import PortForm, Value

_log = logging.getLogger(__name__)


class RemoveLower(Pass[Dfg]):
    """With `remove_lower`: each 8-bit input that is an image, and each that the model quantises to one,
    becomes an 8-bit input in the NPU layout. What the padding holds has no influence.

    Other inputs stay as they are. Source: docs/compiler/options.md.
    """

    name: ClassVar[str] = "remove-lower"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        if not options.config.remove_lower:
            return PassResult(graph, False)
        boundary = Boundary(graph.copy())
        images = {port: _image(boundary, port) for port in graph.inputs}
        for port, image in images.items():
            if image is None:
                _log.debug("input %s stays as it is: it is no image of 8-bit numbers", port)
            else:
                _lower(boundary, port, image, options.pes)
        if not any(images.values()):
            return PassResult(graph, False)
        return PassResult(boundary.finish(), True)


def _image(boundary: Boundary, port: str) -> Value | None:
    """The stored image that an input is, or is quantised to."""
    value = quantized_input(boundary.graph, port) or boundary.graph.values[port]
    known = sorted(boundary.axes(port)) == sorted(IMAGE)
    return value if known and is_stored_image(value) else None


def _lower(boundary: Boundary, port: str, stored: Value, pes: int) -> None:
    graph = boundary.graph
    axes = boundary.axes(port)
    order = tuple(axes.index(letter) for letter in IMAGE)  # image[i] is axis order[i] of the port
    shape = tuple(stored.shape[axis] for axis in order)
    layout = NpuLayout.of(shape, graph.model.batch, pes)
    readers = _readers(graph, port)
    graph.add(replace(stored, name=port, shape=layout.shape))
    graph.model = graph.model.with_form(PortForm(port, AXES, layout.extent))
    image = boundary.value(stored, f"{port}/padded", layout.padded)
    boundary.before.append(boundary.node(port, "Reshape", (port,), image))
    if layout.padding:
        cut = boundary.value(stored, f"{port}/image", shape)
        bounds = [boundary.numbers(f"{cut}/{part}", [n]) for part, n in _bounds(shape[3]).items()]
        boundary.before.append(boundary.node(port, "Slice", (image, *bounds), cut))
        image = cut
    for old, nodes in readers.items():
        # a model in another order begins with a Transpose that is not needed any more
        own = [node for node in nodes if _is_transpose(node, order, graph)]
        others = [node for node in nodes if node not in own]
        for node in own:
            boundary.rename(node.outputs[0], image)
            graph.nodes = [each for each in graph.nodes if each.name != node.name]
        if others:
            boundary.rename(old, _ordered(boundary, port, image, stored, axes), others)


def _is_transpose(node: Node, order: tuple[int, ...], graph: Dfg) -> bool:
    is_kept = node.outputs[0] in graph.outputs
    return node.op == "Transpose" and node.attributes.get("perm") == order and not is_kept


def _ordered(boundary: Boundary, port: str, image: str, stored: Value, axes: str) -> str:
    """The image with the axes that the model's input had."""
    if axes == IMAGE:
        return image
    name = boundary.value(stored, f"{stored.name}/ordered", stored.shape)
    perm = tuple(IMAGE.index(letter) for letter in axes)
    boundary.before.append(boundary.node(port, "Transpose", (image,), name, perm=perm))
    return name


def _bounds(width: int) -> dict[str, int]:
    return {"starts": 0, "ends": width, "axes": 3}


def _readers(graph: Dfg, port: str) -> dict[str, list[Node]]:
    """Who reads the stored image, by the name it has. Nodes that quantise the input are taken out."""
    readers = graph.readers()
    if quantized_input(graph, port) is None:
        return {port: readers[port]}
    names = [node.outputs[0] for node in readers[port]]
    graph.nodes = [node for node in graph.nodes if port not in node.inputs]
    return {name: readers[name] for name in names}
