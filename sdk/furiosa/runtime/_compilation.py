"""One compilation, told to whoever listens: in the log of the runtime, and in a file.

Imported with the compiler only. Source of the texts: runtime reference 8, command-line reference 6.5.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from furiosa.compiler import CompileError, CompilerOptions, PrintProgress
from furiosa.compiler.dfg.operators import uncovered
from furiosa.compiler.dfg.passes.split import Split
from furiosa.compiler.infra import Work
from furiosa.runtime import _compile_log
from furiosa.runtime._environment import is_compile_log_enabled
from furiosa.tools.compiler.version import version_string

_log = logging.getLogger(__name__)
_numbers = count(1)
_TARGETS: Final[Mapping[str, str]] = {
    "warboy": "warboy-b0, 64dpes",
    "warboy-2pe": "warboy-b0-2pe, 128dpes",
}


class Compilation:
    """A Progress and an Instrument of the compiler; a context that hears how it ended.

    It begins with the first stage, so a result that is taken from the cache leaves no trace. A file that
    cannot be written is a warning.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, size: int, options: CompilerOptions
    ) -> None:
        """`path`: of the model, if it has one. `size`: its bytes."""
        self.host_operators: list[str] = []  # in the order of the model
        self.log_path: str | None = None
        self._path = path
        self._size = size
        self._options = options
        self._name = ""
        self._file: TextIO | None = None
        self._printed: PrintProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(value, CompileError):
            self._begin()
        if value is not None:
            self._write(f"failed: {type(value).__name__}: {value}")
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def stage_started(self, index: int, total: int, source: str, target: str) -> None:
        self._begin()
        if self._printed is not None:
            self._printed.stage_started(index, total, source, target)

    def step_done(self, index: int, total: int, name: str, seconds: float) -> None:
        if self._printed is not None:
            self._printed.step_done(index, total, name, seconds)

    def stage_done(self, seconds: float) -> None:
        if self._printed is not None:
            self._printed.stage_done(seconds)

    def finished(self, seconds: float) -> None:
        if self._printed is not None:
            self._printed.finished(seconds)
        if self._name:
            _log.info("%s has been compiled successfully (took %d secs)", self._name, seconds)

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
        if not isinstance(work, Split):
            return
        for node in before.nodes:
            if why := uncovered(node, before):
                self.host_operators.append(node.op)
                self._write(f"{node.name} ({node.op}) runs on the host: {why}")

    def _begin(self) -> None:
        if self._name:
            return
        self._name = f"Model#{next(_numbers):04}"
        file = "" if self._path is None else f"file: {Path(self._path).name}, "
        target = _TARGETS.get(self._options.target, self._options.target)
        compiling = f"{self._name} (target: {target}, {file}size: {size_text(self._size)})"
        using = f"Using furiosa-compiler {version_string()}"
        _log.info("%s", using)
        if is_compile_log_enabled(os.environ):
            self._open()
        _log.info("Compiling %s", compiling)
        self._write(f"{using}\nCompiling {compiling}, batch size {self._options.batch_size}")

    def _open(self) -> None:
        path = _compile_log.new_path(os.environ)
        try:
            self._file = _compile_log.create(path)
        except (OSError, ValueError) as error:
            _log.warning("the compilation log cannot be saved into %s: %s", path, error)
            return
        self._printed = PrintProgress(self._file)
        self.log_path = str(path)
        _log.info("Saving the compilation log into %s", path)

    def _write(self, line: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(line + "\n")


def size_text(size: int) -> str:
    """E.g. `18.2 kiB`."""
    amount, units = float(size), iter(("kiB", "MiB", "GiB"))
    unit = "B"
    while amount >= 1024 and (larger := next(units, None)):
        amount, unit = amount / 1024, larger
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
