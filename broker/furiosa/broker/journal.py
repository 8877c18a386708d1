"""What outlives the broker: an append-only file of lease events, and its audit trail.

A line is a CRC-32 (8 hex), a blank, and one JSON object. A record is written before its effect leaves
the process, so whatever a client was told stands in the file even when the broker is killed right
after. Reading stops at the first line that is torn or damaged: everything before it happened.
"""

import errno
import json
import logging
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from furiosa.broker.log import event

log = logging.getLogger(__name__)

COMPACT_AT_BYTES: Final = 4 * 1024 * 1024  # a few weeks of a busy node; read at every start


@dataclass(frozen=True, slots=True)
class Record:
    """One lease event. `at` is wall-clock time in seconds since the epoch, for people."""

    event: Literal["granted", "revoking", "ended"]
    lease: str
    devices: tuple[str, ...]
    pid: int
    uid: int
    cause: str
    at: float

    def line(self) -> bytes:
        values = {name: getattr(self, name) for name in self.__slots__}
        text = json.dumps(values, separators=(",", ":")).encode()
        return b"%08x %s\n" % (zlib.crc32(text), text)

    @classmethod
    def parse(cls, line: bytes) -> Self | None:
        """None when the line is torn, damaged, or not a record."""
        crc, _, text = line.rstrip(b"\n").partition(b" ")
        try:
            if not line.endswith(b"\n") or int(crc, 16) != zlib.crc32(text):
                return None
            fields = json.loads(text)
            return cls(**{**fields, "devices": tuple(fields["devices"])})
        except (ValueError, TypeError, KeyError):
            return None


class Journal:
    """Appends to `path`. Only one process may hold it: the broker's lock file sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, Record] = {}
        self._fd = -1
        self._size = 0

    def recover(self) -> tuple[Record, ...]:
        """Grants whose end was never written; then start a new file. Call once, first."""
        for record in self._read():
            self._note(record)
        lost = tuple(self._open.values())
        self._open.clear()
        self._rewrite()
        return lost

    def append(self, record: Record) -> None:
        """Raises: OSError when the record is not in the file, e.g. on a full disk."""
        line = record.line()
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # half a line would make everything after it unreadable
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._note(record)
        if self._size > COMPACT_AT_BYTES:
            try:
                self._rewrite()
            except (
                OSError
            ) as exc:  # the record is in the file, which is only longer than it should be
                event(log, "journal.not_compacted", logging.WARNING, cause=exc)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _note(self, record: Record) -> None:
        if record.event == "ended":
            self._open.pop(record.lease, None)
        elif record.event == "granted":
            self._open[record.lease] = record

    def _read(self) -> Iterator[Record]:
        try:
            with self._path.open("rb") as file:
                for line in file:
                    record = Record.parse(line)
                    if record is None:
                        return
                    yield record
        except FileNotFoundError:
            return

    def _rewrite(self) -> None:
        """Replace the file by one that holds only what is still open, in one step."""
        fresh = self._path.with_suffix(".new")
        content = b"".join(_lines(self._open.values()))
        fd = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            if os.write(fd, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.replace(fresh, self._path)
        except OSError:
            os.close(fd)
            raise
        self.close()
        self._fd, self._size = fd, len(content)


def _lines(records: Iterable[Record]) -> Iterator[bytes]:
    return (record.line() for record in records)


def now() -> float:
    return time.time()
