"""The audit log: who got, was refused and lost what, why, and for how long; one JSON object a line.

{"at":"2026-01-02T03:04:05.678Z","event":"lease.granted","pid":4242,"uid":1000,"tenant":"vision",
"lease":"5f3a","devices":["npu0pe0"],"waited":0.12}

Records are written together at the end of the loop's turn. So a broker that is killed may lose those of
its last turn, some milliseconds, and a machine that loses power what its kernel had not written yet: who
holds what is in the journal, which loses nothing. While nothing can be written, e.g. to a full disk,
records are kept, then counted; the count is the first thing written afterwards.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furiosa.broker.log import event as log_event
from furiosa.common.views import OwnerView

log = logging.getLogger(__name__)

MODE: Final = 0o640  # less what the umask takes
MOST_KEPT_BYTES: Final = 4 * 1024**2  # some 15,000 records
RETRY_SECONDS: Final = 1.0

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode


class AuditLog:
    """Appends to the file `path`; None: there is no audit log, and every method does nothing.

    Methods must be called in the event loop's thread; outside a running loop records are written at once.
    """

    def __init__(self, path: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        """Raises: OSError when the file cannot be opened."""
        self._path = path
        self._wall = wall
        self._fd = -1 if path is None else _open(path)
        self._lines: deque[bytes] = deque()
        self._kept = 0  # bytes in `_lines`
        self._written = 0  # bytes of the first line that are in the file already
        self._lost = 0
        self._failing = False
        self._timer: asyncio.Handle | None = None
        self._second = -1
        self._prefix = ""

    @property
    def is_kept(self) -> bool:
        return self._fd >= 0

    def record(self, event: str, /, **fields: object) -> None:
        """Write `fields` under their names, in their order. Never raises; a value that is no JSON is
        written as text. Durations are in seconds."""
        if self._fd < 0:
            return
        line = f'{self._stamp()}Z","event":"{event}"{_rest(fields)}\n'.encode()
        if self._kept + len(line) > MOST_KEPT_BYTES:
            self._lost += 1
            return
        self._lines.append(line)
        self._kept += len(line)
        if self._timer is None:
            self._schedule(0.0)

    def reopen(self) -> None:
        """After the file was renamed, for its successor to be made. The old one stays if that fails."""
        if self._path is None or self._fd < 0:
            return
        self._write()
        try:
            fd = _open(self._path)
        except OSError as exc:
            log_event(log, "audit.not_reopened", logging.ERROR, file=self._path, cause=exc)
            return
        os.close(self._fd)
        self._fd = fd
        self._written = 0  # what was torn by a full disk is whole in the new file
        self._write()

    def close(self) -> None:
        """Writes what there is, if it can be written."""
        if self._fd >= 0:
            self._write()
            self._cancel()
            os.close(self._fd)
            self._fd = -1

    def _stamp(self) -> str:
        """The beginning of a line, to the millisecond. Most records share their second with the last."""
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime('{"at":"%Y-%m-%dT%H:%M:%S', time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}"

    def _schedule(self, delay: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return
        self._timer = loop.call_later(delay, self._flush) if delay else loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        """All lines, or as much as the file takes; then again in a moment."""
        try:
            while self._lines:
                self._take(os.write(self._fd, b"".join(self._lines)[self._written :]))
        except OSError as exc:
            if not self._failing:
                self._failing = True
                log_event(log, "audit.failed", logging.ERROR, file=self._path, cause=exc)
            if self._timer is None:
                with contextlib.suppress(
                    RuntimeError
                ):  # without a loop the next record tries again
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(RETRY_SECONDS, self._flush)
            return
        if self._failing:
            self._failing, lost, self._lost = False, self._lost, 0
            log_event(log, "audit.works", logging.WARNING, file=self._path, lost=lost)
            if lost:
                self.record("audit.lost", records=lost)

    def _take(self, count: int) -> None:
        """So many more bytes are in the file. A line stays until it is in it to its end."""
        count += self._written
        while self._lines and count >= len(self._lines[0]):
            length = len(self._lines.popleft())
            count -= length
            self._kept -= length
        self._written = count

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def who(owner: OwnerView) -> dict[str, object]:
    """The fields that say who an owner is."""
    found: dict[str, object] = {}
    if owner.remote or owner.subject:
        found |= {"remote": owner.remote, "subject": owner.subject}
    else:
        found |= {"pid": owner.pid, "uid": owner.uid}
    if owner.container is not None:
        found["container"] = f"{owner.container.runtime}:{owner.container.id}"
        if owner.container.pod_uid:
            found["pod"] = owner.container.pod_uid
    return found


def _open(path: Path) -> int:
    # a pipe whose reader sleeps must not stop the broker; a file does not care
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, MODE)


def _rest(fields: dict[str, object]) -> str:
    """What comes after the event, to the brace that ends the object."""
    try:
        text = _encode(fields)
    except (ValueError, TypeError, RecursionError):  # infinity, a list in itself
        text = _encode({key: str(value) for key, value in fields.items()})
    return f",{text[1:]}" if fields else "}"
