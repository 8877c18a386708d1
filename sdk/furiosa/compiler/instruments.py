"""Instruments around passes: verify between them, log what they took."""

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from furiosa.compiler.diagnostics import CompilationFailed
from furiosa.compiler.infra import Ir, PassResult, Work

_log = logging.getLogger(__name__)


class Verify:
    """Checks every rule of the IR a step left behind, and that it changed nothing it said it did not.

    Raises: CompilationFailed, naming the rule, the step and the steps before it.
    """

    def __init__(self, irs: Mapping[type[Any], Ir]) -> None:
        self._irs = irs
        self._done: list[str] = []

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        graph = result.graph if isinstance(result, PassResult) else result
        if ir := self._irs.get(type(graph)):
            for rule in ir.rules:
                for found in rule(graph):
                    self._refuse(ir, rule.__name__, found, work)
            if isinstance(result, PassResult) and not result.changed and graph is not before:
                self._refuse(ir, "unchanged_means_the_same", "a graph replaced in silence", work)
        self._done.append(work.name)

    def _refuse(self, ir: Ir, rule: str, found: str, work: Work) -> NoReturn:
        raise CompilationFailed(ir.name, rule, found, work.name, tuple(self._done))


class LogSteps:
    """One debug record a step."""

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        note = " (nothing to do)" if isinstance(result, PassResult) and not result.changed else ""
        _log.debug("%s took %.6f s%s", work.name, seconds, note)
