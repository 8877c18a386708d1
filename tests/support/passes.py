"""Claims about one pass on dfg: what it makes of a graph, or that it leaves it alone."""

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.printer import print_dfg
from furiosa.compiler.dfg.verify import RULES
from furiosa.compiler.infra import Pass
from furiosa.compiler.options import CompilerOptions
from support import goldens


def changed(work: Pass[Dfg], graph: Dfg, options: CompilerOptions | None = None) -> Dfg:
    """Result of a pass that must change the graph, leave its input alone and its output verified."""
    before = print_dfg(graph)
    result = work.run(graph, options or CompilerOptions())
    assert result.changed
    assert print_dfg(graph) == before
    assert [message for rule in RULES for message in rule(result.graph)] == []
    return result.graph


def golden(case: str, work: Pass[Dfg], graph: Dfg, options: CompilerOptions | None = None) -> None:
    after = changed(work, graph, options)
    goldens.check(f"{work.name}/{case}", print_dfg(graph), print_dfg(after))


def unchanged(work: Pass[Dfg], graph: Dfg) -> None:
    result = work.run(graph, CompilerOptions())
    assert not result.changed
    assert result.graph is graph
