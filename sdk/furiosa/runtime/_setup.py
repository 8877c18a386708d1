"""What the environment asks of a process that imports the runtime."""

import logging
from collections.abc import Mapping

from furiosa.runtime import _logging
from furiosa.runtime._environment import (
    OLD_PROFILER_OUTPUT,
    PROFILER_OUTPUT,
    profiler_output,
)

_log = logging.getLogger(__name__)


def obey(environ: Mapping[str, str]) -> None:
    """Set up the log and the trace of the whole process, as far as they are asked for."""
    _logging.configure(environ)
    path, variable = profiler_output(environ)
    if path is None:
        return
    if variable == OLD_PROFILER_OUTPUT:
        _log.warning("%s will be deprecated. Use %s instead.", variable, PROFILER_OUTPUT)
    from furiosa.runtime._process_trace import ProcessTrace  # costs those who ask

    ProcessTrace(path).begin()
