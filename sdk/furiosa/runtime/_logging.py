"""What FURIOSA_LOG_LEVEL does. Without it nothing here touches the logging of the process.

Source: runtime reference 9, whose default level INFO applies once the variable is set to what is none: a
library that is imported and not asked adds no lines to the program's stderr.
"""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Final

from furiosa.runtime._environment import log_level

LOGGERS: Final = ("furiosa.runtime", "furiosa.tools.compiler")


class _Lines(logging.Handler):
    """Writes to stderr, but not what a handler of the program's own gets as well."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_heard(logging.getLogger(record.name)):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _Form(logging.Formatter):
    """`<UTC time with µs>  <LEVEL> <module>: <text>`."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        seconds, fraction = divmod(int(record.created * 1e6), 1_000_000)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        level = "WARN" if record.levelno == logging.WARNING else record.levelname
        line = f"{moment}.{fraction:06d}Z  {level} {record.name}: {record.message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(environ: Mapping[str, str]) -> None:
    """Once for a process, when the runtime is imported."""
    level, wrong = log_level(environ)
    if level is None:
        return
    handler = _Lines()
    handler.setFormatter(_Form())
    for name in LOGGERS:
        log = logging.getLogger(name)
        log.setLevel(level)
        log.addHandler(handler)
    if wrong is not None:
        logging.getLogger(LOGGERS[0]).warning("%s", wrong)


def _is_heard(log: logging.Logger | None) -> bool:
    """Whether a handler that is not ours gets records of `log`."""
    while log is not None:
        if any(not isinstance(handler, _Lines) for handler in log.handlers):
            return True
        log = log.parent if log.propagate else None
    return False
