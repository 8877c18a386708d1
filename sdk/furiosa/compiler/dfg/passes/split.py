"""Decide for each node whether the NPU or the host runs it, in as few sections as possible."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Final

from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.dfg.operators import EIGHT_BIT, uncovered
from furiosa.compiler.dfg.operators.movement import MOVES
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions

# What the host can do as well, some of it not on 8 bits, for which onnxruntime lacks kernels.
EITHER: Final = frozenset({"Dequantize", "Quantize", *MOVES, "Concat", "Resize", "Split"})
_NO_EIGHT_BIT: Final = ("DepthToSpace", "Pad", "Resize", "SpaceToDepth")
_log = logging.getLogger(__name__)


class Split(Pass[Dfg]):
    """Give each node a place and order the nodes so that the runs of one place are as few as can be.

    Taking, turn by turn, every node that can run where the turn is gives the fewest turns for a first
    place, because a node taken early never holds up another; both first places are tried. Nodes that
    can run on either side join the turn in which they are ready, and afterwards move to the NPU when
    only later NPU turns read them. Within a turn nodes keep their order.
    """

    name: ClassVar[str] = "split"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        places = {node.name: _place(node, graph) for node in graph.nodes}
        plans = [_turns(graph, places, first) for first in (Place.NPU, Place.HOST)]
        turns = _sink(graph, places, min(plans, key=lambda turns: len(set(turns.values()))))
        graph = graph.copy()
        ordered = sorted(graph.nodes, key=lambda node: turns[node.name][0])  # stable
        graph.nodes = [replace(node, place=turns[node.name][1]) for node in ordered]
        return PassResult(graph, True)


_Turns = dict[str, tuple[int, Place]]  # of each node by name


def _place(node: Node, graph: Dfg) -> Place:
    if why := uncovered(node, graph):
        _log.debug("%s (%s) runs on the host: %s", node.name, node.op, why)
        return Place.HOST
    either = node.op in EITHER and not (
        node.op in _NO_EIGHT_BIT and graph.values[node.inputs[0]].dtype in EIGHT_BIT
    )
    return Place.ANY if either else Place.NPU


def _turns(graph: Dfg, places: Mapping[str, Place], first: Place) -> _Turns:
    """One sweep in order of execution gives each node the earliest turn: not before the nodes it
    reads, and one of its own place."""
    producers = graph.producers()
    turns: _Turns = {}
    for node in graph.nodes:
        turn = max((turns[n.name][0] for n in _before(node, producers)), default=0)
        place = _at(turn, first)
        if places[node.name] not in (Place.ANY, place):
            turn, place = turn + 1, places[node.name]
        turns[node.name] = turn, place
    return turns


def _at(turn: int, first: Place) -> Place:
    other = Place.HOST if first is Place.NPU else Place.NPU
    return other if turn % 2 else first


def _before(node: Node, producers: Mapping[str, Node]) -> Iterable[Node]:
    return (producers[name] for name in node.reads if name in producers)


def _sink(graph: Dfg, places: Mapping[str, Place], turns: _Turns) -> _Turns:
    readers = graph.readers()
    for node in reversed(graph.nodes):
        turn, place = turns[node.name]
        if place is Place.NPU or places[node.name] is not Place.ANY:
            continue
        if set(node.outputs).intersection(graph.outputs):
            continue
        later = {turns[reader.name] for output in node.outputs for reader in readers[output]}
        if later and min(later)[0] > turn and min(later)[1] is Place.NPU:
            turns[node.name] = min(later)
    return turns
