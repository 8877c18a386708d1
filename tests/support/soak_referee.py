"""Who believes to hold which core, told by the clients themselves, and whether two do so at once.

The referee knows nothing of what the broker thinks. A client tells it of a lease after the broker has
granted it and takes that back before it does anything that ends the lease, so an honest claim lies
within the time of the lease. What may be believed, and when a claim is void although nobody took it
back, because its owner could not:

- The owner has died, or is dying: from then on it runs no instruction, and the broker may act on a
  death before the kernel has torn the process down.
- Its time to live is over, counted from before the client asked for the lease.
- The broker that granted it was killed, its successor has been running for `grace` seconds, and the
  owner did not come back. Until then the lease stands although no broker may know its owner: the
  successor must keep others from the cores. With a `grace` of 0 a lease ends with its broker.

An owner that is stopped keeps what it holds: time alone voids nothing.
"""

import contextlib
import json
import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_MESSAGE = 4096
_ENDING = 0x4 | 0x400  # PF_EXITING, PF_SIGNALED. Source: Linux, include/linux/sched.h
_SIGKILL = 1 << 8


@dataclass(frozen=True, slots=True)
class Claim:
    """`until` and all times are of CLOCK_MONOTONIC."""

    pid: int
    start_time: int
    lease: str
    cores: frozenset[str]
    broker: int
    until: float


class Referee:
    """Listens on `path` in a thread of its own, from `start` to `stop`. `violations` are the findings."""

    def __init__(self, path: Path, grace: float) -> None:
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._grace = grace
        self._claims: dict[tuple[socket.socket, str], Claim] = {}
        self._succeeded: dict[int, float | None] = {}  # killed brokers: when the next was started
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._ending, self._end = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ending, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def broker_killed(self, pid: int) -> None:
        """To be called before it is."""
        with self._lock:
            self._succeeded[pid] = None

    def broker_starts(self) -> None:
        """To be called before it does."""
        with self._lock:
            for pid, when in self._succeeded.items():
                self._succeeded[pid] = time.monotonic() if when is None else when

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._ending:
                    return
                if sock is self._listener:
                    self._selector.register(sock.accept()[0], selectors.EVENT_READ)
                else:
                    self._hear(sock)

    def _hear(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = sock.recv(MAX_MESSAGE)
        if not data:
            self._selector.unregister(sock)
            sock.close()
            for key in [key for key in self._claims if key[0] is sock]:
                del self._claims[key]
            return
        with self._lock:
            answer = self._answer(sock, json.loads(data))
        with contextlib.suppress(BrokenPipeError):
            sock.send(answer)

    def _answer(self, sock: socket.socket, message: dict[str, Any]) -> bytes:
        self.counts[message["event"]] += 1
        match message:
            case {"event": "claim", "lease": lease, "cores": cores, **rest}:
                pid = rest["pid"]
                until = float(rest["until"])
                claim = Claim(pid, _start_time(pid), lease, frozenset(cores), rest["broker"], until)
                if self._is_void(claim):
                    return b"void"
                self._check(sock, claim)
                self._claims[sock, lease] = claim
            case {"event": "drop", "lease": lease}:
                self._claims.pop((sock, lease), None)
            case {"event": "lost", "lease": lease}:
                lost = self._claims.pop((sock, lease), None)
                if lost is not None and not self._is_void(lost):
                    self.violations.append(f"lost while its owner lived: {lost}")
        return b"ok"

    def _check(self, sock: socket.socket, claim: Claim) -> None:
        for key, other in list(self._claims.items()):
            if key != (sock, claim.lease) and other.cores & claim.cores:
                if self._is_void(other):
                    del self._claims[key]
                else:
                    self.violations.append(f"granted twice: {other} and {claim}")

    def _is_void(self, claim: Claim) -> bool:
        if time.monotonic() >= claim.until or is_dying(claim.pid, claim.start_time):
            return True
        if claim.broker not in self._succeeded:
            return False
        succeeded = self._succeeded[claim.broker]
        if succeeded is None:
            return self._grace == 0
        return time.monotonic() >= succeeded + self._grace


def is_dying(pid: int, start_time: int) -> bool:
    """Whether a process, which has one thread, has ended or will run no instruction of its own again.

    Source: proc(5), fields 3, 9 and 22 of stat; SigPnd and ShdPnd of status.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    if stat[0] in "ZX" or int(stat[6]) & _ENDING or int(stat[19]) != start_time:
        return True
    return any(
        int(line.split()[1], 16) & _SIGKILL
        for line in status
        if line.startswith(("SigPnd:", "ShdPnd:"))
    )


def _start_time(pid: int) -> int:
    """-1: it has ended already."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return -1
