"""Who hears the compiler's own log, and for how long."""

import contextlib
import logging
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def details(stream: TextIO, *, wanted: bool = True) -> Iterator[None]:
    """While the body runs, `stream` gets each step with its time and effect, and why operators are not
    for the NPU."""
    if not wanted:
        yield
        return
    log = logging.getLogger("furiosa.compiler")
    handler, level = logging.StreamHandler(stream), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextlib.contextmanager
def warnings(stream: TextIO) -> Iterator[None]:
    """While the body runs, `stream` gets what the cache warns of."""
    log = logging.getLogger("furiosa.tools.compiler")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
