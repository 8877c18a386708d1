"""A trace of the whole process, where FURIOSA_PROFILER_OUTPUT_PATH asks for one.

Everything is recorded from the import of the runtime on, is kept in memory, and is written when the process
ends in order. Imported with the variable only. Source: runtime reference 9 and 10.3.
"""

import atexit
import fcntl
import logging
import os
from typing import TextIO

from furiosa.runtime._core import recording
from furiosa.runtime._core.recording import Recording

_log = logging.getLogger(__name__)


class ProcessTrace:
    """`wanted`: where it goes. That file is open, locked and empty until then.

    A process that finds it locked, and every forked child, writes `wanted`.<pid> instead.
    """

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._file: TextIO | None = None
        self._recording = Recording()

    def begin(self) -> None:
        """Until the process ends. Where nothing can be written that is a warning, and nothing is recorded."""
        own = f"{self._wanted}.{os.getpid()}"
        try:
            file = _claimed(self._wanted)
            recording.whole_process = self._wanted if file else own
            self._file = file or _claimed(own)
        except OSError as error:
            text = "the profiler output cannot be written into %s: %s"
            _log.warning(text, self._wanted, error.strerror)
            recording.whole_process = None
            return
        self._recording.begin()
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._begin_in_child)

    def end(self) -> None:
        from furiosa.runtime.profiler.chrome_trace import chrome_trace  # not before there is a need

        entries, offset = self._recording.entries, self._recording.offset
        self._recording.end()
        if self._file is None and not entries:
            return  # a child that ran nothing
        text = chrome_trace([span for entry in entries for span in entry.spans(offset)])
        path = recording.whole_process
        assert path is not None
        try:
            with self._file or open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            _log.warning("the profiler output was not written into %s: %s", path, error.strerror)

    def _begin_in_child(self) -> None:
        """What happened before is its parent's to write."""
        if self._file is not None:
            self._file.close()  # the parent's lock stays
            self._file = None
        recording.whole_process = f"{self._wanted}.{os.getpid()}"
        self._recording = Recording()
        self._recording.begin_in_child()


def _claimed(path: str) -> TextIO | None:
    """None when another process has claimed it. Raises: OSError."""
    flags = (
        os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    )  # a pipe nobody reads is an error
    file = os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    return file
