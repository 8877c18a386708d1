"""Where a command talks: data to stdout, everything else to stderr."""

from __future__ import annotations

import io
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO


class Terminal:
    __slots__ = ("err", "out")

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.out = out
        self.err = err

    @classmethod
    def standard(cls) -> Self:
        """The process's own streams, in UTF-8 whatever the locale: the published output has a `°`."""
        return cls(_usable(sys.stdout), _usable(sys.stderr))

    @property
    def is_screen(self) -> bool:
        """Whether stdout is a terminal that understands codes: bold letters, a cursor."""
        return self.out.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """A line for people. Nobody may be listening; that is no reason to fail."""
        try:  # noqa: SIM105 - contextlib takes longer to import than the rest of this
            print(text, file=self.err, flush=True)
        except OSError:
            pass

    @property
    def is_heard(self) -> bool:
        """Whether somebody can read stdout: not if its reader has left or its terminal is closed."""
        try:
            poll = select.poll()
            poll.register(self.out, 0)
        except OSError:  # no file
            return True
        return not poll.poll(0)

    def finish(self) -> None:
        """Flush stdout. What it does not take goes nowhere, or the interpreter would complain at exit."""
        try:
            self.out.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.out.fileno())
            os.close(nowhere)


def _usable(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by whoever started us
        return io.StringIO()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    return stream
