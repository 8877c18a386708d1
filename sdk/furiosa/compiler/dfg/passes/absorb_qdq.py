"""Turn what is between Dequantize and Quantize into operators on stored integers."""

import logging
from typing import ClassVar

from furiosa.compiler.dfg.absorb import BUILDERS, run_from
from furiosa.compiler.dfg.absorb.tables import Tables
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import uncovered
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions

_log = logging.getLogger(__name__)


class AbsorbQdq(Pass[Dfg]):
    """Replace each Quantize, in this order of preference,

        of elementwise operators on one stored tensor: by a table of it;
        of an operator on stored tensors, with Relu and Clip in between: by a Q operator.

    Relu and Clip become a clamp of what is stored, which is exact: quantising is monotonic. What the NPU
    cannot do stays as it is and so runs in float on the host. A Dequantize -> Quantize that changes
    nothing becomes an Identity.
    """

    name: ClassVar[str] = "absorb-qdq"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        tabulated = _tabulate(graph)
        absorbed = _absorb(graph)
        changed = tabulated or absorbed
        return PassResult(graph if changed else before, changed)


def _tabulate(graph: Dfg) -> bool:
    """What led to a table is left, as others may read it."""
    tables = Tables(graph, graph.producers())
    made = {node.name: table for node in graph.nodes if (table := tables.add(node)) is not None}
    graph.nodes = [made.get(node.name, node) for node in graph.nodes]
    return bool(made)


def _absorb(graph: Dfg) -> bool:
    producers, readers = graph.producers(), graph.readers()
    absorbed: set[str] = set()
    replaced: dict[str, Node] = {}  # by name of the Quantize that ends the run
    for node in graph.nodes:
        if node.op not in BUILDERS or (run := run_from(node, graph, readers)) is None:
            continue
        new = BUILDERS[node.op](run, graph, producers)
        if new is None:
            continue
        if why := uncovered(new, graph):
            _log.debug("%s (%s) stays in float: %s", node.name, node.op, why)
            continue
        absorbed.update(item.name for item in run.nodes)
        replaced[run.nodes[-1].name] = new
    graph.nodes = [
        replaced.get(node.name, node)
        for node in graph.nodes
        if node.name in replaced or node.name not in absorbed
    ]
    return bool(replaced)
