"""Who is at the other end of a Unix socket: the kernel's word, held by a pidfd that outlives PID reuse.

Source: unix(7), pidfd_open(2), proc_pid_stat(5).
"""

import contextlib
import functools
import os
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from furiosa.broker import containers
from furiosa.broker.tenants.principal import Principal
from furiosa.common.views import Container, OwnerView

SO_PEERPIDFD: Final = 77  # Linux 6.5; Python has no name for it
COMMAND_LINE_BYTES: Final = 4096
COMMAND_LINE_SECONDS: Final = 1.0  # a process may change its own; a list of leases asks for many

MOST_GENERATIONS: Final = 64  # between a process and the descendant that it hands a lease to
MOST_THREADS: Final = 1024  # of a process whose end is asked about; each costs two reads

# Marks of a thread that will not come back: PF_SIGNALED when it takes a fatal signal, PF_POSTCOREDUMP
# and PF_EXITING on the way out, all before the kernel walks its robust mutexes. Source: linux/sched.h
_GOING: Final = 0x400 | 0x8 | 0x4
_SIGKILL_BIT: Final = 1 << (signal.SIGKILL - 1)
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Unidentified(Exception):
    """The kernel does not tell who the peer is, or the peer has ended; the text says what it is."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """What tells a process from every other one of the same boot, written down."""

    pid: int
    uid: int
    gid: int
    start_time_ticks: int
    key: int

    @property
    def view(self) -> OwnerView:
        """Without what only the living process tells."""
        return OwnerView(self.pid, self.uid, self.gid, self.start_time_ticks, "")


@dataclass(slots=True)
class _Seen:
    text: str = ""
    at: float = -COMMAND_LINE_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class Owner:
    """A process. `pidfd` belongs to this value; `key` is the same for every `Owner` of one process and
    no other process ever has it, also not one that gets the same pid later.
    """

    pid: int
    uid: int
    gid: int
    start_time_ticks: int
    pidfd: int
    key: int
    container: Container | None = None
    _seen: _Seen = field(default_factory=_Seen, repr=False)

    @property
    def is_alive(self) -> bool:
        return not _has_ended(self.pidfd)

    @property
    def command_line(self) -> str:
        """Arguments joined with blanks, at most a second old; the last known ones of a dead process."""
        now = time.monotonic()
        if now - self._seen.at >= COMMAND_LINE_SECONDS:
            text = _command_line(self.pid)
            if text and self.is_alive:  # else the text may be that of the pid's next holder
                self._seen.text = text
            self._seen.at = now
        return self._seen.text

    @property
    def view(self) -> OwnerView:
        return OwnerView(
            self.pid,
            self.uid,
            self.gid,
            self.start_time_ticks,
            self.command_line,
            self.container,
        )

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.uid, self.gid, self.start_time_ticks, self.key)

    @property
    def principal(self) -> Principal:
        groups = frozenset(map(int, _status(f"/proc/{self.pid}", b"Groups:")))
        if not self.is_alive:  # else they may be those of the pid's next holder
            groups = frozenset()
        return Principal(self.uid, self.gid, self.container, groups=groups)

    def close(self) -> None:
        """Only once: the number may belong to another file afterwards."""
        os.close(self.pidfd)


def identify(sock: socket.socket) -> Owner:
    """The process that connected `sock`; a child that inherited the connection does not count.

    Raises: Unidentified.
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(credentials)
    if pid <= 0:
        raise Unidentified(
            "in a process namespace that the broker cannot see into (run the broker in the host's, "
            "hostPID, or in the client's)"
        )
    with contextlib.ExitStack() as undo:
        pidfd = _pidfd(sock, pid)
        undo.callback(os.close, pidfd)
        start_time, container = _start_time(pid), containers.of_process(pid)
        if _has_ended(pidfd):  # else what was read is about this very process
            raise _ended(pid)
        if start_time is None:
            raise Unidentified(f"pid {pid}, which /proc hides from the broker")
        key = _key(pidfd, pid, start_time)
        owner = Owner(pid, uid, gid, start_time, pidfd, key, container)
        undo.pop_all()
        return owner


def find(mark: ProcessMark) -> Owner | None:
    """The process with this mark, if it still lives."""
    try:
        pidfd = os.pidfd_open(mark.pid)
    except (OSError, ValueError):
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, pidfd)
        start_time, container = _start_time(mark.pid), containers.of_process(mark.pid)
        if start_time != mark.start_time_ticks or _has_ended(pidfd):
            return None
        if _key(pidfd, mark.pid, start_time) != mark.key:
            return None
        undo.pop_all()
        return Owner(mark.pid, mark.uid, mark.gid, start_time, pidfd, mark.key, container)


def restored(mark: ProcessMark, pidfd: int) -> Owner | None:
    """The process with this mark whose pidfd a broker before opened; takes it. None: it has ended, or
    the pidfd is another's.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, pidfd)
        container = containers.of_process(mark.pid)
        if _has_ended(pidfd) or _key(pidfd, mark.pid, mark.start_time_ticks) != mark.key:
            return None
        undo.pop_all()
        return Owner(
            mark.pid, mark.uid, mark.gid, mark.start_time_ticks, pidfd, mark.key, container
        )


def descends(pid: int, ancestor: int) -> bool:
    """Whether `ancestor` is the parent of `pid`, or a parent's parent. A snapshot: they may end."""
    for _ in range(MOST_GENERATIONS):
        stat = _stat(f"/proc/{pid}")
        if len(stat) < 2:
            return False
        pid = int(stat[1])
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
    return False


def is_ending(owner: Owner) -> bool:
    """Whether all threads of the process have ended or are being killed, memory or no memory.

    False also when that cannot be told. A process whose first thread alone has ended, or that is in the
    middle of an exec, is not ending; an empty /proc/<pid>/cmdline would take both for dead.
    """
    if not owner.is_alive:
        return True
    tasks = f"/proc/{owner.pid}/task"
    try:
        threads = os.listdir(tasks)
    except OSError:
        return not owner.is_alive
    if len(threads) > MOST_THREADS:
        return False
    return bool(threads) and all(_is_ending(f"{tasks}/{thread}") for thread in threads)


def first_thread_id(pid: int) -> int | None:
    """The number that the first thread of `pid` has in its own process namespace."""
    numbers = _status(f"/proc/{pid}", b"NSpid:")
    return int(numbers[-1]) if numbers else None


def _is_ending(task: str) -> bool:
    stat = _stat(task)
    if len(stat) < 7 or stat[0] in (b"Z", b"X") or int(stat[6]) & _GOING:
        return True
    pending = _status(task, b"SigPnd:")
    return bool(pending) and bool(int(pending[0], 16) & _SIGKILL_BIT)


def _ended(pid: int) -> Unidentified:
    return Unidentified(f"pid {pid}, which has ended")


def _pidfd(sock: socket.socket, pid: int) -> int:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except ProcessLookupError:
        raise _ended(pid) from None
    except OSError:
        return _pidfd_by_number(sock, pid)  # a kernel before 6.5


def _pidfd_by_number(sock: socket.socket, pid: int) -> int:
    """Since the connect the peer may have died and another process may have got its pid.

    As long as a peer lives nobody else has its pid, and one that died has hung up, unless it left a
    child with its connection: only newer kernels can tell that.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise _ended(pid) from None
    if _has_hung_up(sock):
        os.close(pidfd)
        raise _ended(pid)
    return pidfd


def _key(pidfd: int, pid: int, start_time: int) -> int:
    """The inode of the pidfd where each process has its own (Linux 6.9), else start time and pid."""
    status = os.fstat(pidfd)
    if (status.st_dev, status.st_ino) == _anonymous_inode():
        return start_time << 32 | pid
    return status.st_ino


@functools.cache
def _anonymous_inode() -> tuple[int, int]:
    """The one that all descriptors without a file of their own share."""
    fd = os.eventfd(0)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return status.st_dev, status.st_ino


def _start_time(pid: int) -> int | None:
    stat = _stat(f"/proc/{pid}")
    return int(stat[19]) if len(stat) > 19 else None


def _stat(folder: str) -> list[bytes]:
    """From field 3, the state, on; empty when there is no such process.

    Field 2 is the name in parentheses, and may itself hold blanks and parentheses.
    """
    return _read(f"{folder}/stat", 4096).rpartition(b")")[2].split()


def _status(folder: str, name: bytes) -> list[bytes]:
    for line in _read(f"{folder}/status", 8192).splitlines():
        if line.startswith(name):
            return line.split()[1:]
    return []


def _command_line(pid: int) -> str:
    data = _read(f"/proc/{pid}/cmdline", COMMAND_LINE_BYTES)
    return data.replace(b"\0", b" ").decode(errors="replace").strip()


def _read(path: str, most: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most) or b""
    except OSError:
        return b""


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _has_hung_up(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
