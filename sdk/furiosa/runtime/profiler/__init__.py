"""Where the time of inferences goes: spans of calls, executions and single operators.

    with open("trace.json", "w") as file, profile(file=file) as profiler:
        with profiler.record("warm up"):
            runner.run(image)
        runner.run(image)

The trace opens in ui.perfetto.dev and chrome://tracing. Operators are measured one by one in the first 32
inferences of a model and then in one of twelve. Source: runtime reference 10.
"""

import contextlib
import io
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from enum import Enum
from types import TracebackType
from typing import IO, Any, Self

from furiosa.runtime._core import recording
from furiosa.runtime._core.recording import Recording
from furiosa.runtime._core.spans import Category, Named, Span, below
from furiosa.runtime.profiler.chrome_trace import chrome_trace

__all__ = ["RecordFormat", "Resource", "profile"]

_log = logging.getLogger(__name__)


class Resource(Enum):
    """What is recorded."""

    All = "all"
    Cpu = "cpu"
    Npu = "npu"


class RecordFormat(Enum):
    ChromeTrace = 0


_CATEGORIES = {
    Resource.All: (Category.RUNTIME, Category.NPU),
    Resource.Cpu: (Category.RUNTIME,),
    Resource.Npu: (Category.NPU,),
}


class profile:
    """Records all inferences of the process between entering and leaving the context, then writes `file`.

    `file` stays the caller's and open; without one a temporary file is made, whose path is logged and
    is `profiler.file.name`. Contexts may be nested; each records everything.
    Raises: TypeError for arguments of other types.
    """

    def __init__(
        self,
        resource: Resource = Resource.All,
        format: RecordFormat = RecordFormat.ChromeTrace,
        file: IO[Any] | None = None,
    ) -> None:
        for name, value, kind in (
            ("resource", resource, Resource),
            ("format", format, RecordFormat),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: expected a {kind.__name__}, found {value!r:.80}")
        if file is not None and not callable(getattr(file, "write", None)):
            raise TypeError(f"file: expected a file object to write to, found {file!r:.80}")
        self.file = file
        self._own_file = file is None
        self._resource = resource
        self._recording: Recording | None = None

    def __enter__(self) -> Self:
        if self._recording is not None:
            raise RuntimeError("a profiler records once; make a new one")
        if self.file is None:
            self.file = tempfile.NamedTemporaryFile(  # open until the context is left
                "w", prefix="furiosa-trace-", suffix=".json", delete=False
            )
            _log.info("the trace will be in %s", self.file.name)
        self._recording = Recording()
        self._recording.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._recording is not None
        assert self.file is not None
        self._recording.end()
        text = chrome_trace(list(self._spans()))
        self.file.write(text if _takes_text(self.file) else text.encode())
        self.file.flush()
        if self._own_file:
            self.file.close()

    @contextlib.contextmanager
    def record(self, name: str) -> Iterator[None]:
        """A span around what this thread or task does in the body; spans of it hang below."""
        parent = recording.around.get()
        place, parent_id = below(parent)
        before = recording.around.set(place)
        start = time.monotonic_ns()
        try:
            yield
        finally:
            recording.around.reset(before)
            running = self._running()
            if not running.paused:
                thread = threading.get_native_id()
                end = time.monotonic_ns()
                running.entries.append(Named(place, parent_id, thread, start, end, name))

    def pause(self) -> None:
        """Record nothing until `resume`. Time goes on: a gap stays. Twice is once."""
        self._running().paused = True

    def resume(self) -> None:
        self._running().paused = False

    def _running(self) -> Recording:
        if self._recording is None:
            raise RuntimeError("the profiler does not record: enter its context first")
        return self._recording

    def _spans(self) -> Iterator[Span]:
        running, kept = self._running(), _CATEGORIES[self._resource]
        for entry in running.entries:
            yield from (span for span in entry.spans(running.offset) if span.category in kept)


def _takes_text(file: IO[Any]) -> bool:
    return isinstance(file, io.TextIOBase) or isinstance(getattr(file, "file", None), io.TextIOBase)
