"""An ONNX graph that can be edited: nodes, constants, who makes a value, who reads it.

Rules: a `Graph` owns its model; nodes are changed only through its methods, so that the index of
producers and readers is never stale; names of graph inputs and outputs never change. Values captured
by a subgraph (If, Loop, Scan) count as read by the node that holds the subgraph. Nothing here knows
what an operator computes.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

Array = npt.NDArray[Any]

CONTRIB: Final = "com.microsoft"  # operators of onnxruntime's own

_LARGEST_VALUE: Final = 1024  # elements: no larger constant says anything about a shape


class Graph:
    """Owns: nothing of `model`, which it copies."""

    def __init__(self, model: ModelProto) -> None:
        self.frame = ModelProto()  # what has no place below: metadata, opsets, domains
        self.frame.CopyFrom(model)
        self._arrays: dict[str, Array] = {}
        self._take()
        self._names = set(value_names(model.graph))

    def _take(self) -> None:
        """Move the contents of the frame's graph to where they can be edited."""
        graph = self.frame.graph
        self._types = {v.name: v.type for v in (*graph.value_info, *graph.input, *graph.output)}
        # a name given twice means its last value, as in onnxruntime
        self.constants: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        # before IR version 4 each constant was an input, too
        self.inputs: list[ValueInfoProto] = [i for i in graph.input if i.name not in self.constants]
        self.outputs: list[ValueInfoProto] = list(graph.output)
        self.nodes: list[NodeProto] = list(graph.node)
        for field in (graph.value_info, graph.initializer, graph.input, graph.output, graph.node):
            del field[:]
        self._producers: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        self._stale = True

    @property
    def opset(self) -> int:
        return default_opset(self.frame)

    def to_model(self) -> ModelProto:
        """A model of its own with every edit so far; types of inner values only if `infer` was run."""
        model = ModelProto()
        model.CopyFrom(self.frame)
        graph = model.graph
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants.values())
        graph.input.extend(self.inputs)
        graph.output.extend(self.outputs)
        inner = {name for node in self.nodes for name in node.output if not self.is_output(name)}
        graph.value_info.extend(
            ValueInfoProto(name=name, type=kind)
            for name, kind in self._types.items()
            if name in inner
        )
        return model

    def infer(self) -> None:
        """Learn the types and shapes of all values anew.

        Raises: ValueError when the shapes contradict each other.
        """
        constants = self.constants
        large = {n: t for n, t in constants.items() if math.prod(t.dims) > _LARGEST_VALUE}
        self.constants = {n: t for n, t in constants.items() if n not in large}
        model = self.to_model()
        model.graph.input.extend(
            helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            for name, tensor in large.items()
        )
        gelus = [n for n in model.graph.node if (n.domain, n.op_type) == (CONTRIB, "Gelu")]
        outputs = {node.output[0] for node in gelus}
        for node in gelus:  # onnx knows no contrib operator, but one with the same shapes
            node.domain, node.op_type = "", "Erf"
        try:
            self.frame = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise ValueError(f"the shapes of the model are inconsistent: {error}") from error
        for node in self.frame.graph.node:
            if node.output[0] in outputs:
                node.domain, node.op_type = CONTRIB, "Gelu"
        self._take()
        self.constants = constants
        self.inputs = [i for i in self.inputs if i.name not in large]

    # who makes and reads a value

    def _index(self) -> None:
        if not self._stale:
            return
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._readers = {}
        for node in self.nodes:
            for name in dict.fromkeys(names_read(node)):
                self._readers.setdefault(name, []).append(node)
        self._stale = False

    def producer(self, name: str) -> NodeProto | None:
        self._index()
        return self._producers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        self._index()
        return self._readers.get(name, [])

    def is_input(self, name: str) -> bool:
        return any(i.name == name for i in self.inputs)

    def is_output(self, name: str) -> bool:
        return any(o.name == name for o in self.outputs)

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that sees this value; None when several do or the caller of the model does."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    # values

    def array(self, name: str) -> Array | None:
        """The value of a constant, else None. Owns: the array is the graph's; do not write to it."""
        if name not in self._arrays and name in self.constants:
            self._arrays[name] = numpy_helper.to_array(self.constants[name])
        return self._arrays.get(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """None when the rank or any dimension is unknown."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        if not all(d.HasField("dim_value") for d in dims):
            return None
        return tuple(d.dim_value for d in dims)

    def element_type(self, name: str) -> int:
        """A TensorProto.DataType; UNDEFINED when it is not known or the value is no tensor."""
        if name in self.constants:
            return self.constants[name].data_type
        kind = self._types.get(name)
        return TensorProto.UNDEFINED if kind is None else kind.tensor_type.elem_type

    # edits

    def fresh(self, hint: str) -> str:
        """A value name nobody uses, and which is taken from now on."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name

    def add_constant(self, array: Array, hint: str) -> str:
        name = self.fresh(hint)
        self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def set_constant(self, name: str, array: Array) -> None:
        """Give `name`, until now made by a node that is to be removed, a fixed value."""
        self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)

    def set_input(self, node: NodeProto, position: int, name: str) -> None:
        """Optional inputs in front of `position` are left out."""
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name
        self._stale = True

    def set_output(self, node: NodeProto, position: int, name: str) -> None:
        node.output[position] = name
        self._stale = True

    def replace_reads(self, old: str, new: str) -> None:
        """Every node that reads `old` reads `new` from now on; the outputs of the graph stay."""
        for node in self.readers(old):
            rename_reads(node, old, new)
        self._stale = True

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        doomed = {id(n) for n in nodes}
        self.nodes = [n for n in self.nodes if id(n) not in doomed]
        self._stale = True

    def replace(self, node: NodeProto, replacement: Iterable[NodeProto]) -> None:
        """Put `replacement`, in order, where `node` was."""
        at = next(i for i, n in enumerate(self.nodes) if n is node)
        self.nodes[at : at + 1] = replacement
        self._stale = True

    def name_nodes(self) -> None:
        """Give a name to each node that has none, or one that an earlier node has."""
        taken = {node.name for node in self.nodes} - {""}
        seen: set[str] = set()
        for node in self.nodes:
            if not node.name or node.name in seen:
                node.name = next(
                    name
                    for count in itertools.count()
                    if (name := f"{node.name or node.op_type}_{count}") not in taken
                )
                taken.add(node.name)
            seen.add(node.name)

    def prune(self) -> bool:
        """Drop nodes and constants that no output depends on; true when there were any."""
        needed = {o.name for o in self.outputs}
        alive = []
        for node in reversed(self.nodes):
            if any(name in needed for name in node.output):
                alive.append(node)
                needed.update(names_read(node))
        dead = len(alive) < len(self.nodes)
        self.nodes = alive[::-1]
        self.constants = {name: t for name, t in self.constants.items() if name in needed}
        self._stale = True
        return dead


def default_opset(model: ModelProto) -> int:
    """The version of the standard operators, 0 when the model imports none."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def is_standard(node: NodeProto, *operators: str) -> bool:
    """Is this one of the named operators of the default domain?"""
    return node.domain in ("", "ai.onnx") and node.op_type in operators


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_read(node: NodeProto) -> Iterator[str]:
    """Every value the node may read, also from within its subgraphs (whose own names count too)."""
    yield from filter(None, node.input)
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from names_read(inner)
        yield from (o.name for o in graph.output)


def rename_reads(node: NodeProto, old: str, new: str) -> None:
    """Change `old` to `new` in the node's inputs and within its subgraphs, whose own names all differ."""
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
    for graph in subgraphs(node):
        for inner in graph.node:
            rename_reads(inner, old, new)


def value_names(graph: GraphProto) -> Iterator[str]:
    """Every name of a value, also within subgraphs."""
    yield from (value.name for value in (*graph.input, *graph.output))
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from node.input
        yield from node.output
        for inner in subgraphs(node):
            yield from value_names(inner)
