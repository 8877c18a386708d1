"""The context in which inferences are recorded, and what can be asked of it afterwards."""

import contextlib
import io
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from furiosa.runtime._core import recording
from furiosa.runtime._core.recording import Recording
from furiosa.runtime._core.spans import Category, Named, Span, below
from furiosa.runtime.profiler import reports
from furiosa.runtime.profiler.chrome_trace import chrome_trace
from furiosa.runtime.profiler.frame import comma_separated, frame

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


class Resource(Enum):
    """What is recorded. The upper-case names are older ones."""

    All = "all"
    Cpu = "cpu"
    Npu = "npu"
    ALL = "all"
    CPU = "cpu"
    NPU = "npu"


class RecordFormat(Enum):
    """What is written: a JSON array of trace events, or CSV."""

    ChromeTrace = 0
    PandasDataFrame = 1


_CATEGORIES: Final[Mapping[Resource, Sequence[Category]]] = {
    Resource.All: (Category.RUNTIME, Category.NPU),
    Resource.Cpu: (Category.RUNTIME,),
    Resource.Npu: (Category.NPU,),
}
_WRITERS: Final[Mapping[RecordFormat, tuple[Callable[[Sequence[Span]], str], str]]] = {
    RecordFormat.ChromeTrace: (chrome_trace, ".json"),
    RecordFormat.PandasDataFrame: (comma_separated, ".csv"),
}
# as published
_DISABLED: Final = "Wrtting profiler output into %s. Profiler API profile() disabled"


class profile:
    """Records all inferences of the process between entering and leaving the context, then writes `file`.

    `file` stays the caller's and open; without one a temporary file is made, whose path is logged and
    is `profiler.file.name`. Contexts may be nested; each records everything.
    With RecordFormat.PandasDataFrame the spans stay: DataFrames (which need pandas) and reports are made
    of them after the context. With the other one they are empty.
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
        self._format = format
        self._recording: Recording | None = None
        self._spans: Sequence[Span] = ()

    def __enter__(self) -> Self:
        if self._recording is not None:
            raise RuntimeError("a profiler records once; make a new one")
        if self.file is None:
            self.file = tempfile.NamedTemporaryFile(  # open until the context is left
                "w", prefix="furiosa-trace-", suffix=_WRITERS[self._format][1], delete=False
            )
            _log.info("the trace will be in %s", self.file.name)
        self._recording = Recording()
        if recording.whole_process is None:
            self._recording.begin()
        else:
            _log.warning(_DISABLED, recording.whole_process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = self._running()
        running.end()
        kept = _CATEGORIES[self._resource]
        spans = [
            span
            for entry in running.entries
            for span in entry.spans(running.offset)
            if span.category in kept
        ]
        running.entries.clear()
        if self._format is RecordFormat.PandasDataFrame:
            self._spans = spans
        assert self.file is not None
        text = _WRITERS[self._format][0](spans)
        self.file.write(text if _takes_text(self.file) else text.encode())
        self.file.flush()
        if self._own_file:
            self.file.close()

    @contextlib.contextmanager
    def record(self, name: str, warm_up: bool = False) -> Iterator[None]:
        """A span around what this thread or task does in the body; spans of it hang below.

        `warm_up`: nothing of the body is recorded, by any thread.
        """
        running = self._running()
        if warm_up:
            before, running.paused = running.paused, True
            try:
                yield
            finally:
                running.paused = before
            return
        place, parent_id = below(recording.around.get())
        outside = recording.around.set(place)
        start = time.monotonic_ns()
        try:
            yield
        finally:
            recording.around.reset(outside)
            thread, end = threading.get_native_id(), time.monotonic_ns()
            named = Named(place, parent_id, thread, start, end, name)
            if recording.whole_process is not None:
                recording.add(named)
            elif not running.paused:
                running.entries.append(named)

    def pause(self) -> None:
        """Record nothing until `resume`. Time goes on: a gap stays. Twice is once."""
        self._running().paused = True

    def resume(self) -> None:
        self._running().paused = False

    # After the context

    def get_pandas_dataframe(self) -> "pd.DataFrame":
        return frame(self._spans)

    def get_pandas_dataframe_with_filter(self, column: str, value: object) -> "pd.DataFrame":
        """Rows with this value in this column. Raises: KeyError for a column there is not."""
        whole = frame(self._spans)
        return whole[whole[column] == value]

    def get_cpu_pandas_dataframe(self) -> "pd.DataFrame":
        return self.get_pandas_dataframe_with_filter("cat", Category.RUNTIME.value)

    def get_npu_pandas_dataframe(self) -> "pd.DataFrame":
        return self.get_pandas_dataframe_with_filter("cat", Category.NPU.value)

    def print_npu_operators(self) -> None:
        print(reports.npu_operators(self._spans, _columns()))

    def print_npu_executions(self) -> None:
        print(reports.npu_executions(self._spans, _columns()))

    def print_external_operators(self) -> None:
        print(reports.external_operators(self._spans, _columns()))

    def print_inferences(self) -> None:
        print(reports.inferences(self._spans, _columns()))

    def print_summary(self) -> None:
        print(reports.summary(self._spans))

    def export_chrome_trace(self, filename: str) -> None:
        """Write the rows as a trace. Raises: OSError."""
        Path(filename).write_text(chrome_trace(self._spans))

    def _running(self) -> Recording:
        if self._recording is None:
            raise RuntimeError("the profiler does not record: enter its context first")
        return self._recording


def _takes_text(file: IO[Any]) -> bool:
    return isinstance(file, io.TextIOBase) or isinstance(getattr(file, "file", None), io.TextIOBase)


def _columns() -> int | None:
    """Of the terminal; None: the output goes elsewhere, and lines may be of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
