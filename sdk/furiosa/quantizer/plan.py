"""Which nodes compute on integers, and which tensors are stored as such."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from onnx import NodeProto, TensorProto, helper

from furiosa.optimizer.graph import Graph, is_standard


class Kind(Enum):
    LAYER = auto()  # constant weights and bias
    OWN = auto()  # the result has a range of its own
    ELEMENTWISE = auto()  # the same; constants among the operands are quantised too
    SHARED = auto()  # moves values about: the result is stored as the operand is


QUANTIZABLE: Final[Mapping[str, Kind]] = {
    "Add": Kind.ELEMENTWISE,
    "AveragePool": Kind.OWN,
    "Clip": Kind.OWN,
    "Concat": Kind.ELEMENTWISE,
    "Conv": Kind.LAYER,
    "Flatten": Kind.SHARED,
    "Gemm": Kind.LAYER,
    "GlobalAveragePool": Kind.OWN,
    "MaxPool": Kind.SHARED,
    "Mul": Kind.ELEMENTWISE,
    "Relu": Kind.OWN,
    "Reshape": Kind.SHARED,
    "Squeeze": Kind.SHARED,
    "Transpose": Kind.SHARED,
    "Unsqueeze": Kind.SHARED,
}
_FUSING: Final = ("Add", "Conv", "Gemm")  # a Relu or Clip right after these is part of them


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`tensors`: what is stored as int8, in graph order, each with the tensor whose scale it uses.

    `layers`: nodes whose weights and bias become integers, too; `constants`: other constant operands
    that do, as node and position. Everything else stays float32.
    """

    tensors: Mapping[str, str]
    layers: tuple[NodeProto, ...]
    constants: tuple[tuple[NodeProto, int], ...]

    @property
    def ranged(self) -> tuple[str, ...]:
        """The tensors that need a range."""
        return tuple(name for name, origin in self.tensors.items() if name == origin)


def plan_of(graph: Graph) -> Plan:
    """The plan for an optimised graph; it holds for the graph as it is now."""
    integer = _integer_nodes(graph)
    tensors: dict[str, str] = {}
    constants = []
    for node in integer:
        for position, name in enumerate(_operands(graph, node)):
            producer = graph.producer(name)
            if name in graph.constants:
                constants.append((node, position))
            elif producer is None or not _is_fused(graph, producer):
                tensors.setdefault(name, name)
        if not _is_fused(graph, node):
            result = node.output[0]
            shared = _kind(graph, node) is Kind.SHARED
            tensors[result] = tensors[node.input[0]] if shared else result
    layers = tuple(node for node in integer if _kind(graph, node) is Kind.LAYER)
    return Plan(tensors, layers, tuple(constants))


def _integer_nodes(graph: Graph) -> list[NodeProto]:
    kinds = {id(node): _kind(graph, node) for node in graph.nodes}
    chosen: set[int] = {
        identity for identity, kind in kinds.items() if kind not in (None, Kind.SHARED)
    }
    for node in graph.nodes:
        # moving float values about in between float operators would only round them
        source = node.input[0] if node.input else ""
        near = [graph.producer(source), *graph.readers(source)]
        if kinds[id(node)] is Kind.SHARED and (
            graph.is_input(source) or any(id(n) in chosen for n in near if n is not node)
        ):
            chosen.add(id(node))
    return [node for node in graph.nodes if id(node) in chosen]


def _kind(graph: Graph, node: NodeProto) -> Kind | None:
    """None for a node that must stay float."""
    if not is_standard(node, *QUANTIZABLE):
        return None
    results = [name for name in node.output if name]
    if len(results) != 1 or graph.element_type(results[0]) != TensorProto.FLOAT:
        return None
    if 0 in (graph.shape(results[0]) or ()):
        return None
    kind = QUANTIZABLE[node.op_type]
    if kind is not Kind.ELEMENTWISE and node.input[0] in graph.constants:
        return None
    check = _CHECKS.get(node.op_type)
    return None if check and not check(graph, node) else kind


def _has_constant_tail(graph: Graph, node: NodeProto) -> bool:
    """Weights and bias, or bounds, are constants."""
    return all(name in graph.constants for name in node.input[1:] if name)


_GEMM_DEFAULTS: Final = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _is_normal_gemm(graph: Graph, node: NodeProto) -> bool:
    """Output channels are axis 0 of the weights, and the bias is [N]: the optimizer's form."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        _has_constant_tail(graph, node)
        and {**_GEMM_DEFAULTS, **given} == {**_GEMM_DEFAULTS, "transB": 1}
        and all(len(graph.constants[name].dims) == 1 for name in node.input[2:] if name)
    )


_CHECKS: Final[Mapping[str, Callable[[Graph, NodeProto], bool]]] = {
    "Clip": _has_constant_tail,
    "Conv": _has_constant_tail,
    "Gemm": _is_normal_gemm,
}


def _operands(graph: Graph, node: NodeProto) -> list[str]:
    every = _kind(graph, node) is Kind.ELEMENTWISE
    return list(node.input) if every else [node.input[0]]


def _is_fused(graph: Graph, node: NodeProto) -> bool:
    """Is the result seen only by an activation that is computed together with the node?"""
    if not is_standard(node, *_FUSING) or _kind(graph, node) is None:
        return False
    reader = graph.only_reader(node.output[0])
    return (
        reader is not None
        and is_standard(reader, "Relu", "Clip")
        and _kind(graph, reader) is not None
    )
