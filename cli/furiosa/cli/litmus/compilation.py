"""The third step: to a program for the NPU. Source: command reference 4.4."""

import contextlib
import io
from typing import TextIO

from furiosa.cli.litmus.bundle import Bundle
from furiosa.compiler import CompilerOptions, PrintProgress
from furiosa.tools.compiler.listening import details
from furiosa.tools.compiler.reported import compile_reported


class Compilation:
    """Its progress goes to `err`, and with all details to the log of a bundle."""

    def __init__(self, err: TextIO, bundle: Bundle | None) -> None:
        self._err = err
        self._bundle = bundle

    def run(self, model: bytes, target: str, *, is_verbose: bool) -> bytes:
        """An ENF; nothing compiled before is used. Raises: CompileError."""
        bundle = self._bundle
        if bundle is None:
            with details(self._err, wanted=is_verbose):
                return compile_reported(
                    model, CompilerOptions(target), PrintProgress(self._err), results=None
                ).result
        log = bundle.compiler_log = io.StringIO()
        with details(self._err, wanted=is_verbose), details(log):
            try:
                compiled = compile_reported(
                    model,
                    CompilerOptions(target),
                    PrintProgress(_Both(self._err, log)),
                    results=None,
                    dot_graph=True,
                    memory_report=True,
                )
            except Exception as exc:
                log.write(f"ERROR: {exc}\n")
                raise
        bundle.dot_graph, bundle.memory_report = compiled.dot_graph, compiled.memory_report
        return compiled.result


class _Both(io.StringIO):
    """What is written goes to two streams; the first one's reader may have left."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        super().__init__()
        self._first = first
        self._second = second

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            self._first.write(text)
            self._first.flush()
        return self._second.write(text)
