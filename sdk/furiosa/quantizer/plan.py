"""Which nodes compute on integers, and which tensors are stored as such."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from furiosa.optimizer.graph import Graph, is_standard
from furiosa.quantizer.operators import FUSING, NATURAL_RANGES, Kind, kind_of


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`tensors`: what is stored as int8, in graph order, each with the group it belongs to.

    The tensors of a group share one scale and zero point. `sources`: by group the tensors whose
    values decide its range; the others only hold elements of these. A group is named after its first
    source. `natural`: sources whose range is known without data.
    `layers`: nodes whose weights and bias become integers, too; `constants`: other constant operands
    that do, as node and position. Everything else stays float32.
    """

    tensors: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]
    natural: Mapping[str, tuple[float, float]]
    layers: tuple[NodeProto, ...]
    constants: tuple[tuple[NodeProto, int], ...]


def plan_of(graph: Graph) -> Plan:
    """The plan for an optimised graph; it holds for the graph as it is now."""
    kinds = _integer_nodes(graph)
    groups = _Groups()
    natural = {}
    constants = []
    for node in graph.nodes:
        kind = kinds.get(id(node))
        if kind is None:
            continue
        operands = list(node.input) if kind in (Kind.ARITHMETIC, Kind.JOIN) else [node.input[0]]
        for position, name in enumerate(operands):
            producer = graph.producer(name)
            if name in graph.constants:
                constants.append((node, position))
            elif producer is None or not _is_fused(graph, producer, kinds):
                groups.add(name)
        if _is_fused(graph, node, kinds):
            continue
        results = [name for name in node.output if name]
        if kind is Kind.MOVE:
            for result in results:
                groups.add(result, node.input[0])
        else:
            groups.add(results[0])
        if kind is Kind.JOIN:
            for operand in operands:
                if _may_join(graph, groups.of(operand), kinds):
                    groups.join(results[0], operand)
            groups.settle(results[0], operands)
        elif node.op_type in NATURAL_RANGES:
            natural[results[0]] = NATURAL_RANGES[node.op_type]
    tensors, sources = groups.named()
    layers = tuple(node for node in graph.nodes if kinds.get(id(node)) is Kind.LAYER)
    return Plan(tensors, sources, natural, layers, tuple(constants))


class _Groups:
    """Tensors that share one scale, under construction; a tensor comes after what it is made from."""

    def __init__(self) -> None:
        self._group: dict[str, list[str]] = {}  # of each tensor, in graph order
        self._sources: dict[str, None] = {}  # in graph order

    def add(self, name: str, into: str | None = None) -> None:
        """A tensor of a group of its own, or one that holds elements of `into`."""
        if name in self._group:
            return
        if into is None:
            self._group[name] = [name]
            self._sources[name] = None
        else:
            self._group[name] = self._group[into]
            self._group[name].append(name)

    def of(self, name: str) -> Sequence[str]:
        """The group a tensor is in; nothing for a constant."""
        return self._group.get(name, ())

    def join(self, first: str, second: str) -> None:
        """Make one group of two."""
        ours, theirs = self._group[first], self._group[second]
        if theirs is not ours:
            theirs.extend(ours)
            self._group.update(dict.fromkeys(ours, theirs))

    def settle(self, result: str, operands: Sequence[str]) -> None:
        """A result whose operands are all in its group adds nothing to the group's range."""
        if all(self._group.get(name) is self._group[result] for name in operands):
            del self._sources[result]

    def named(self) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """The group of each tensor, and the sources of each group."""
        members: dict[int, list[str]] = {}
        for name in self._sources:
            members.setdefault(id(self._group[name]), []).append(name)
        tensors = {name: members[id(group)][0] for name, group in self._group.items()}
        return tensors, {names[0]: tuple(names) for names in members.values()}


def _may_join(graph: Graph, group: Sequence[str], kinds: Mapping[int, Kind]) -> bool:
    """May what is concatenated take over the result's scale, which may be much coarser?

    Not an input or output of the graph, whose range its caller may have in mind, and not what others
    compute with; but what was concatenated before, as rounding it anew each time would be worse.
    """
    mere = (Kind.MOVE, Kind.JOIN)
    for name in group:
        producer = graph.producer(name)
        if producer is not None and kinds.get(id(producer)) is Kind.JOIN:
            return True
    return bool(group) and not any(
        graph.is_input(name)
        or graph.is_output(name)
        or any(kinds.get(id(reader)) not in mere for reader in graph.readers(name))
        for name in group
    )


def _integer_nodes(graph: Graph) -> dict[int, Kind]:
    """Kinds by identity of the node.

    Moving float values about in between float operators would only round them: such nodes are
    integer only where one side is already.
    """
    able = {
        id(node): (node, kind) for node in graph.nodes if (kind := kind_of(graph, node)) is not None
    }
    movers = {i: entry for i, entry in able.items() if entry[1] in (Kind.MOVE, Kind.JOIN)}
    chosen = {i: kind for i, (_, kind) in able.items() if i not in movers}
    while found := {i: kind for i, (node, kind) in movers.items() if _touches(graph, node, chosen)}:
        chosen |= found
        movers = {i: entry for i, entry in movers.items() if i not in found}
    return chosen


def _touches(graph: Graph, node: NodeProto, chosen: Mapping[int, Kind]) -> bool:
    """Are values of the node stored already, or inputs of the graph, which cost nothing to store?"""
    operands = list(node.input) if is_standard(node, "Concat") else [node.input[0]]
    near = [graph.producer(name) for name in operands]
    for name in (*operands, *node.output):
        near += graph.readers(name)
    return any(map(graph.is_input, operands)) or any(id(n) in chosen for n in near)


def _is_fused(graph: Graph, node: NodeProto, kinds: Mapping[int, Kind]) -> bool:
    """Is the result seen only by an activation that is computed together with the node?"""
    if not is_standard(node, *FUSING) or id(node) not in kinds:
        return False
    reader = graph.only_reader(node.output[0])
    return reader is not None and is_standard(reader, "Relu", "Clip") and id(reader) in kinds
