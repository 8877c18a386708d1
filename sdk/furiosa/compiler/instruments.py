"""Instruments around passes: verify between them, log what they did, keep what they left."""

import logging
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from furiosa.compiler.diagnostics import CompilationFailed
from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.infra import Ir, PassResult, Work, graph_of
from furiosa.compiler.measures import changes, measure, spilled_bytes

G = TypeVar("G")
_log = logging.getLogger(__name__)


class Verify:
    """Checks every rule of the IR a step left behind, or that it left the graph that came in if it says so.

    Raises: CompilationFailed, naming the rule, the step and the steps before it.
    """

    def __init__(self, irs: Mapping[type[Any], Ir]) -> None:
        self._irs = irs
        self._done: list[str] = []

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        graph = graph_of(result)
        if ir := self._irs.get(type(graph)):
            if isinstance(result, PassResult) and not result.changed:
                if graph is not before:
                    self._refuse(
                        ir, "unchanged_means_the_same", "a graph replaced in silence", work
                    )
            else:
                for rule in ir.rules:
                    for found in rule(graph):
                        self._refuse(ir, rule.__name__, found, work)
        self._done.append(work.name)

    def _refuse(self, ir: Ir, rule: str, found: str, work: Work) -> NoReturn:
        raise CompilationFailed(ir.name, rule, found, work.name, tuple(self._done))


class LogSteps:
    """One debug record a step: what it took and what it did."""

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        if not _log.isEnabledFor(logging.DEBUG):
            return
        if isinstance(result, PassResult):
            note = changes(measure(before), measure(result.graph)) if result.changed else ""
            note = note or ("the same figures" if result.changed else "nothing to do")
        else:
            note = changes({}, measure(result)) or f"{len(result)} bytes"
        _log.debug("%s took %.6f s: %s", work.name, seconds, note)


class Keep:
    """Keeps the last graph of each of `kinds`, IR classes, and so keeps these alive and no other."""

    def __init__(self, *kinds: type[Any]) -> None:
        self._kinds = kinds
        self._last: dict[type[Any], Any] = {}

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        graph = graph_of(result)
        if isinstance(graph, self._kinds):
            self._last[type(graph)] = graph

    def last(self, kind: type[G]) -> G | None:
        """None when no step left one."""
        return self._last.get(kind)


class Spills:
    """`bytes` of activations that the allocation put into DRAM because SRAM had no room."""

    def __init__(self) -> None:
        self.bytes = 0

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        graph = graph_of(result)
        if isinstance(graph, Gir):
            self.bytes = spilled_bytes(graph)
