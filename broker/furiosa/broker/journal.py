"""What outlives the broker: an append-only file of lease events.

A line is a CRC-32 (8 hex), a blank, and one JSON object; the first names the boot the file is about,
for no lease outlives a reboot. A record is written before its effect leaves the process, so whatever a
client was told stands in the file even when the broker is killed right after. `Sync` says what stands
there after a power cut. A damaged line is skipped: everything around it happened.
"""

import enum
import errno
import logging
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec
from msgspec.structs import replace

from furiosa.broker.lease import Lease, Terms
from furiosa.broker.log import event
from furiosa.broker.owners import ProcessMark
from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState

log = logging.getLogger(__name__)

VERSION: Final = 3
_encode: Final = msgspec.json.Encoder().encode
COMPACT_AT_BYTES: Final = 4 * 1024 * 1024  # and twice the size that it had after the last time


class Sync(enum.Enum):
    """When the file is forced onto the disk. The owners of leases die in a power cut as well, so what a
    later sync may lose is history, never exclusivity.
    """

    NEVER = "never"  # whenever the kernel likes
    SECOND = "second"  # once a second
    ALWAYS = "always"  # before a grant is told to anybody


class Files:
    """The steps that can fail or be the last one; tests let them."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)


class OtherVersion(ValueError):
    """Who holds what stands in a form that cannot be read here; the text says what to do."""


class Record(msgspec.Struct, frozen=True):
    """One lease event. Times of the lease are of the monotonic clock, comparable within one boot; `at`
    is wall-clock time in seconds since the epoch, for people. `secret` is a digest, empty for none.
    """

    event: Literal["granted", "changed", "ended"]
    lease: Lease
    owner: ProcessMark
    weight: float
    granted_at: float  # wall clock
    secret: str
    at: float

    def line(self) -> bytes:
        lease, owner = self.lease, self.owner
        values: dict[str, Any] = {"event": self.event, "lease": lease.id, "at": self.at}
        if self.event == "ended":
            values["cause"] = lease.cause
        else:
            values |= {
                "devices": [str(file) for file in lease.files],
                "state": lease.state.value,
                "tenant": lease.tenant,
                "weight": self.weight,
                "priority": lease.priority,
                "holder": lease.holder,
                "ttl": lease.terms.time_to_live,
                "linger": lease.terms.linger,
                "since": lease.granted_at,
                "expires": _finite(lease.expires_at),
                "ends": _finite(lease.ends_at),
                "owner": [owner.pid, owner.uid, owner.gid, owner.start_time_ticks, owner.key],
                "granted": self.granted_at,
                "secret": self.secret,
                "cause": lease.cause,
            }
        return _line(values)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Raises: ValueError, KeyError, TypeError, BadDeviceFile for what `line` never writes."""
        if values["event"] not in ("granted", "changed", "ended"):
            raise ValueError(values["event"])
        ended = values["event"] == "ended"
        lease = Lease(values["lease"], 0, (), LeaseState.ENDED, cause=values["cause"])
        owner, weight, granted, secret = ProcessMark(0, 0, 0, 0, 0), 1.0, 0.0, ""
        if not ended:
            lease = replace(
                lease,
                holder=int(values["holder"]),
                files=tuple(map(DeviceFile.parse, values["devices"])),
                state=LeaseState(values["state"]),
                tenant=values["tenant"],
                priority=int(values["priority"]),
                terms=Terms(values["ttl"], float(values["linger"])),
                granted_at=float(values["since"]),
                expires_at=_time(values["expires"]),
                ends_at=_time(values["ends"]),
            )
            owner = ProcessMark(*map(int, values["owner"]))
            weight, granted = float(values["weight"]), float(values["granted"])
            secret = str(values["secret"])
        return cls(values["event"], lease, owner, weight, granted, secret, float(values["at"]))


class Journal:
    """Appends to `path`. Only one process may hold it: the broker's lock file sees to that."""

    def __init__(
        self,
        path: Path,
        *,
        sync: Sync = Sync.NEVER,
        boot: str | None = None,
        files: Files | None = None,
    ) -> None:
        self.sync = sync
        self._path = path
        self._boot = boot_id() if boot is None else boot
        self._files = Files() if files is None else files
        self._open: dict[str, Record] = {}
        self._fd = -1
        self._size = 0
        self._compacted_size = 0
        self._dirty = False

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def recover(self) -> tuple[Record, ...]:
        """Leases of this boot whose end was never written, oldest first; then start a new file with
        them. Call once, first. Raises: OSError; OtherVersion.
        """
        damaged, version = 0, VERSION
        unread: set[str] = set()  # leases in the form of another version
        for values in _read(self._path):
            try:
                if values is None:
                    raise ValueError("damaged")
                if values["event"] == "opened":
                    if values["boot"] != self._boot:
                        break  # the owners of all this are gone
                    version = values["version"]
                elif version != VERSION:
                    # these two are what every version writes
                    change = unread.discard if values["event"] == "ended" else unread.add
                    change(values["lease"])
                else:
                    self._note(Record.parse(values))
            except (ValueError, KeyError, TypeError, BadDeviceFile):
                damaged += 1
        if unread:
            raise OtherVersion(
                f"it has version {version}, expected {VERSION}, and open leases ({len(unread)}): start "
                "the broker that wrote it, or end the programs that have them and move the file away"
            )
        if damaged:
            event(log, "journal.damaged", logging.WARNING, lines=damaged, path=self._path)
        self.rewrite()
        return tuple(self._open.values())

    def append(self, record: Record) -> None:
        """Raises: OSError when the record is not in the file, e.g. on a full disk."""
        line = record.line()
        written = 0
        try:
            while written < len(line):
                written += self._files.write(self._fd, line[written:])
        except OSError:
            # half a line would make the next one unreadable
            self._files.truncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._dirty = True
        self._note(record)
        if self._size > max(COMPACT_AT_BYTES, 2 * self._compacted_size):
            try:
                self.rewrite()
            except (
                OSError
            ) as exc:  # the record is in the file, which is only longer than it should be
                self._compacted_size = self._size  # not again at once
                event(log, "journal.not_compacted", logging.WARNING, cause=exc)

    def unflushed(self) -> Callable[[], None] | None:
        """What forces all that was appended so far onto the disk: to be called in any one thread, which
        it may keep for long, raising OSError. None: there is nothing to force.

        After a failure only `rewrite` makes the file whole: the kernel has dropped what it could not
        write.
        """
        if not self._dirty:
            return None
        self._dirty = False
        fd = os.dup(self._fd)  # a compaction may close ours meanwhile

        def flush() -> None:
            try:
                self._files.fsync(fd)
            finally:
                os.close(fd)

        return flush

    def rewrite(self) -> None:
        """Replace the file by one that holds only what is still open, in one step. Raises: OSError."""
        fresh = self._path.with_suffix(".new")
        header = {"event": "opened", "boot": self._boot, "version": VERSION, "at": now()}
        content = b"".join((_line(header), *_lines(self._open.values())))
        fd = self._files.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            if self._files.write(fd, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.sync is not Sync.NEVER:
                self._files.fsync(fd)
            self._files.replace(fresh, self._path)
        except OSError:
            os.close(fd)
            raise
        self.close()
        self._fd, self._size, self._compacted_size = fd, len(content), len(content)
        self._dirty = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _note(self, record: Record) -> None:
        if record.event == "ended":
            self._open.pop(record.lease.id, None)
        else:
            self._open[record.lease.id] = record


def boot_id() -> str:
    """Changes with every start of the kernel. Source: proc_sys_kernel(5)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def now() -> float:
    return time.time()


def _finite(seconds: float) -> float | None:
    """JSON has no infinity."""
    return None if math.isinf(seconds) else seconds


def _time(seconds: float | None) -> float:
    return math.inf if seconds is None else float(seconds)


def _line(values: dict[str, Any]) -> bytes:
    text = _encode(values)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lines(records: Iterable[Record]) -> Iterator[bytes]:
    return (replace(record, event="granted").line() for record in records)


def _read(path: Path) -> Iterator[dict[str, Any] | None]:
    """None for each line that is torn or damaged."""
    try:
        with path.open("rb") as file:
            for line in file:
                yield _values(line)
    except FileNotFoundError:
        return


def _values(line: bytes) -> dict[str, Any] | None:
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        if not line.endswith(b"\n") or int(crc, 16) != zlib.crc32(text):
            return None
        values = msgspec.json.decode(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
