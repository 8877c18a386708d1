"""Nodes of an ONNX model replaced by others, operator by operator, by the functions of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.operators import attributes_of, read_tensor
from furiosa.compiler.frontend.shapes import known_types
from furiosa.compiler.value import Array, Attribute

ANEW: Final = "export the model anew"


class Draft:
    """A model whose nodes are being replaced; `nodes` are the new ones so far."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._model = model
        self._names = names_of(model.graph)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output:
                held = (item.t for item in node.attribute if item.name == "value")
                self._constants.update((node.output[0], tensor) for tensor in held)

    @cached_property
    def types(self) -> Mapping[str, onnx.TypeProto.Tensor]:
        """Types of the model's values where they can be told."""
        return known_types(self._model)

    @cached_property
    def read(self) -> set[str]:
        """Values that something reads."""
        graph = self._model.graph
        return {info.name for info in graph.output}.union(*(node.input for node in graph.node))

    def data(self, name: str) -> Array | None:
        """The value of a constant, or None. Raises: InvalidModel for a broken one."""
        tensor = self._constants.get(name)
        return None if tensor is None else read_tensor(tensor)

    def constant(self, data: npt.ArrayLike, name: str) -> str:
        tensor = onnx.numpy_helper.from_array(np.asarray(data), self.fresh(name))
        self._model.graph.initializer.append(tensor)
        self._constants[tensor.name] = tensor
        return tensor.name

    def fresh(self, name: str) -> str:
        """`name`, or the first of name', name'', ... that nothing has."""
        while name in self._names:
            name += "'"
        self._names.add(name)
        return name


@dataclass(frozen=True, slots=True)
class Site:
    """A node on its way out, and the draft, which gets what takes its place."""

    node: onnx.NodeProto
    attributes: Mapping[str, Attribute]
    draft: Draft

    def operands(self, least: int, most: int) -> list[str]:
        """Names of the inputs, "" for each left out, `most` of them. Raises: InvalidModel."""
        names = list(self.node.input)
        if not least <= len(names) <= most or not all(names[:least]):
            given = len([name for name in names if name])
            raise self.refuse(f"it has {given} inputs, not {least} to {most}", ANEW)
        return names + [""] * (most - len(names))

    def ints(self, name: str) -> tuple[int, ...] | None:
        """A list of integers among the attributes. Raises: InvalidModel for anything else."""
        held = self.attributes.get(name)
        if held is None:
            return None
        if not isinstance(held, tuple) or not all(isinstance(number, int) for number in held):
            raise self.refuse(f"attribute '{name}' is no list of integers", ANEW)
        return tuple(int(number) for number in held)

    def integer(self, name: str, default: int) -> int:
        held = self.attributes.get(name, default)
        if not isinstance(held, int):
            raise self.refuse(f"attribute '{name}' is no integer", ANEW)
        return held

    def number(self, name: str, default: float) -> float:
        held = self.attributes.get(name, default)
        if not isinstance(held, int | float):
            raise self.refuse(f"attribute '{name}' is no number", ANEW)
        return held

    def without(self, *names: str) -> dict[str, Attribute]:
        """The attributes but for these."""
        return {name: held for name, held in self.attributes.items() if name not in names}

    def constant(self, data: npt.ArrayLike, hint: str) -> str:
        return self.draft.constant(data, f"{self.node.output[0]}/{hint}")

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        hint: str = "",
    ) -> str:
        """A node with one result, whose name is made up; without a hint it inherits the node's name."""
        result = self.draft.fresh(f"{self.node.output[0]}/{hint or operator}")
        self._append(operator, inputs, [result], attributes or {}, hint)
        return result

    def finish(
        self,
        operator: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        hint: str = "",
    ) -> None:
        """A node with the replaced node's outputs; without a hint it inherits its name."""
        self._append(operator, inputs, self.node.output, attributes or {}, hint)

    def _append(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Attribute],
        hint: str,
    ) -> None:
        name = f"{self.node.name}/{hint}" if hint else self.node.name
        node = onnx.NodeProto(op_type=operator, input=inputs, output=outputs, name=name)
        for key, held in attributes.items():
            if held != ():  # which has no type of its own, and means what a missing one means
                node.attribute.append(onnx.helper.make_attribute(key, held))
        self.draft.nodes.append(node)

    def refuse(self, found: str, hint: str) -> InvalidModel:
        return InvalidModel(found, hint, self.node.name, self.node.op_type)


Rewrite = Callable[[Site], None]


def rewrite(model: onnx.ModelProto, table: Mapping[str, Rewrite], domain: str = "") -> bool:
    """Give every node of the domain whose operator is in `table` to its function, in place.

    Returns whether there was one. Raises: InvalidModel.
    """
    graph = model.graph
    if not any(node.domain == domain and node.op_type in table for node in graph.node):
        return False
    draft = Draft(model)
    for node in graph.node:
        if node.domain != domain or node.op_type not in table:
            draft.nodes.append(node)
            continue
        site = Site(node, attributes_of(node), draft)
        if not node.output or not node.output[0]:
            raise site.refuse("it has no output", ANEW)
        if tensors := [
            name for name, held in site.attributes.items() if isinstance(held, np.ndarray)
        ]:
            raise site.refuse(f"attribute '{tensors[0]}' is a tensor", ANEW)
        table[node.op_type](site)
    del graph.node[:]
    graph.node.extend(draft.nodes)
    model.ir_version = max(model.ir_version, 4)  # before, every initialiser was an input as well
    return True


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Every name of a value."""
    infos = (*graph.input, *graph.output, *graph.value_info)
    names = {info.name for info in infos}
    names.update(tensor.name for tensor in graph.initializer)
    return names.union(*(node.output for node in graph.node))
