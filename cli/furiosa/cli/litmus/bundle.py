"""The archive for a bug report. Source: command reference 4.5."""

import io
import random
import string
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from furiosa.tools.compiler.files import save

_RANDOM: Final = string.ascii_lowercase + string.digits + "_"


@dataclass(slots=True)
class Bundle:
    """What was collected so far; a member that is None does not exist.

    The model is nowhere in it, nor are its weights: the graph and the report name operators and sizes.
    """

    meta: str
    compiler_log: io.StringIO | None = None
    memory_report: bytes | None = None
    dot_graph: bytes | None = None
    trace: bytes | None = None
    began: int = field(default_factory=lambda: int(time.time()))

    def path(self, prefix: Path) -> Path:
        return prefix.with_name(f"{prefix.name}-{self.began}.zip")

    def write(self, prefix: Path) -> None:
        """Whole or not at all. Raises: OSError."""
        folder = f"{prefix.name}-{self.began}{''.join(random.choices(_RANDOM, k=8))}"
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self._members():
                archive.writestr(f"{folder}/{name}", content)
        save(self.path(prefix), data.getvalue())

    def _members(self) -> Iterator[tuple[str, str | bytes]]:
        yield "meta.yaml", self.meta
        if self.compiler_log is not None:
            yield "compiler/compiler.log", self.compiler_log.getvalue()
        for name, content in (
            ("compiler/memory-analysis.html", self.memory_report),
            ("compiler/model.dot", self.dot_graph),
            ("runtime/trace.json", self.trace),
        ):
            if content is not None:
                yield name, content
