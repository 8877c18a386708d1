"""Structured logs: one line an event, in one of three forms, e.g.

text    2026-01-02T03:04:05.678Z INFO  lease.granted lease=5f3a device=npu0pe0-1 pid=4242
logfmt  ts=2026-01-02T03:04:05.678Z level=info event=lease.granted lease=5f3a device=npu0pe0-1 pid=4242
json    {"ts":"2026-01-02T03:04:05.678Z","level":"info","event":"lease.granted","lease":"5f3a",...}

What a client made, such as its command line, cannot end a line or move a terminal's cursor: whatever is not
printable is escaped. Under systemd a line begins with its priority, <N>, and the journal has the time.
"""

import json
import logging
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from furiosa.broker.log_stream import LogStream

Fields = Mapping[str, object]

_is_plain: Final = re.compile(r"[\w.\-/:,+*()]+", re.ASCII).fullmatch
_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_NAMES: Final = {level: logging.getLevelName(level) for level in _LEVELS}
_PRIORITIES: Final = dict(zip(_LEVELS, (7, 6, 4, 3, 2), strict=True))  # Source: sd-daemon(3)


def event(
    logger: logging.Logger, name: str, level: int = logging.INFO, /, **fields: object
) -> None:
    """Log `name` with its fields; ids are `lease`, `device`, `pid`, `session`.

    `ts`, `level`, `event`, `logger`, `message` and `exception` are no names for fields.
    """
    if logger.isEnabledFor(level):
        if _lines is not None:  # not by a LogRecord: making one takes longer than all the rest
            _lines.event(level, name, fields)
        else:
            logger.log(level, "%s", " ".join((name, *_words(fields))))


def set_up(level: str, form: str = "text", fd: int = 2) -> LogStream:
    """Log what is at least `level` to `fd`, in one of FORMS. For the whole process, once."""
    global _lines
    try:
        os.fstat(fd)
    except OSError:  # started without: the next file that is opened must not get the log
        fd = os.open(os.devnull, os.O_WRONLY)
    stream = LogStream(fd)
    _lines = _Lines(stream, FORMS[form], _is_journal(fd, os.environ.get("JOURNAL_STREAM", "")))
    logging.basicConfig(level=level, handlers=[_lines], force=True)
    return stream


def _is_journal(fd: int, journal: str) -> bool:
    """Source: systemd.exec(5), JOURNAL_STREAM: device and inode of the stream to the journal."""
    status = os.fstat(fd)
    return journal == f"{status.st_dev}:{status.st_ino}"


def _words(fields: Fields) -> list[str]:
    return [
        f"{name}={text if _is_plain(text) else _quoted(text)}"
        for name, value in fields.items()
        for text in (str(value),)
    ]


def _quoted(text: str) -> str:
    """A JSON string, which readers of logfmt understand."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_visible(escaped)}"'


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _text(stamp: str, level: str, name: str, fields: Fields) -> str:
    """For people: a traceback follows in lines that are indented, as no event is."""
    error = str(fields.get("exception", ""))
    words = _words(fields if not error else {**fields, "exception": "below"})
    lines = (" ".join((f"{stamp}{level:<5} {name}", *words)), *map(_visible, error.splitlines()))
    return "\n    ".join(lines)


def _logfmt(stamp: str, level: str, name: str, fields: Fields) -> str:
    head = f"ts={stamp}" if stamp else ""
    return " ".join((f"{head}level={level.lower()} event={name}", *_words(fields)))


_NATIVE: Final = frozenset({str, int, bool, type(None)})
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def _json(stamp: str, level: str, name: str, fields: Fields) -> str:
    head = {"ts": stamp[:-1]} if stamp else {}
    values = {
        key: value if type(value) in _NATIVE else _json_value(value)
        for key, value in fields.items()
    }
    return _encode({**head, "level": level.lower(), "event": name, **values})


def _json_value(value: object) -> object:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


Form = Callable[[str, str, str, Fields], str]  # of time and a blank, or "", level, name, fields
FORMS: Final[Mapping[str, Form]] = {"text": _text, "logfmt": _logfmt, "json": _json}


class _Lines(logging.Handler):
    """Events as they come, and what others log, as events named "log"."""

    def __init__(self, stream: LogStream, form: Form, journal: bool) -> None:
        super().__init__()
        self._stream = stream
        self._form = form
        self._journal = journal
        self._now = (-1, "")  # a second since the epoch, and its text

    def event(self, level: int, name: str, fields: Fields) -> None:
        self._tell_lost()
        self._stream.write(self._line(level, name, fields), now=level >= logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"message": record.getMessage(), "logger": record.name}
            if record.exc_info:
                error = "".join(traceback.format_exception(*record.exc_info))
                fields["exception"] = error.rstrip()
        except Exception:  # the message and its arguments do not fit
            self.handleError(record)
        else:
            self.event(record.levelno, "log", fields)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()
        self._tell_lost()
        super().close()

    def _tell_lost(self) -> None:
        if lost := self._stream.take_lost():
            line = self._line(logging.WARNING, "log.dropped", {"lines": lost})
            self._stream.write(line, now=True)

    def _line(self, level: int, name: str, fields: Fields) -> bytes:
        shown = _NAMES.get(level) or logging.getLevelName(level)
        if not self._journal:
            return f"{self._form(self._time(), shown, name, fields)}\n".encode()
        head = f"<{_PRIORITIES.get(level, 6)}>"
        return f"{head}{self._form('', shown, name, fields)}\n".replace(
            "\n ", f"\n{head} "
        ).encode()

    def _time(self) -> str:
        """RFC 3339, in UTC, and a blank."""
        now = time.time()
        second, text = self._now
        if second != int(now):
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._now = second, text
        return f"{text}.{int((now - second) * 1000):03d}Z "


_lines: _Lines | None = None  # of set_up
