"""What stands between a command and a running broker: one at a time, enough descriptors, clear failures."""

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.broker.settings import BrokerSettings
from furiosa.broker.tenants.parse import BadTenants

LEAVING_SECONDS: Final = 2.0  # to wait for another embedded broker to be gone


class CannotStart(Exception):
    """The text is for the person who started the daemon."""


@contextlib.contextmanager
def naming(failure: str) -> Iterator[None]:
    """What keeps the broker from starting is told in one line, not as a defect."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, BadTenants) as exc:
        raise CannotStart(f"{failure}: {exc}") from None


@contextlib.contextmanager
def only_one(settings: BrokerSettings, held: int | None) -> Iterator[int]:
    """Hold the lock that belongs to the socket: two brokers must never arbitrate the same cores.

    `held`: the descriptor of one who held it before in this process; taken.
    """
    if held is not None:
        try:
            yield held
        finally:
            os.close(held)
        return
    try:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(f"{settings.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise CannotStart(str(exc)) from None
    try:
        # one that leaves because it was idle may still be stopping its workers
        deadline = time.monotonic() + (LEAVING_SECONDS if settings.embedded else 0.0)
        while not _locked(fd):
            if time.monotonic() >= deadline:
                raise CannotStart(f"another broker is running on {settings.socket}")
            time.sleep(0.05)
        yield fd
    finally:
        os.close(fd)


def take_all_descriptors() -> None:
    """As many as we may have: each client costs some, and the usual 1,024 is for programs that select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def share(settings: BrokerSettings, socket: Path) -> None:
    """Give a socket to the group whose members may use NPU devices, if there is one."""
    if os.geteuid() == 0 and not settings.embedded:
        with contextlib.suppress(LookupError):
            shutil.chown(socket, group=settings.socket_group)


def say_ready(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(BrokenPipeError):  # who asked has gone; others may come
            os.write(fd, b"READY\n")
        os.close(fd)


@dataclass(slots=True)
class IdleTimer:
    """Calls `leave` when there has been no session for `seconds`; 0 never does."""

    seconds: float
    leave: Callable[[], None]
    _handle: asyncio.TimerHandle | None = None

    def sessions(self, count: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if count == 0 and self.seconds > 0:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(self.seconds, self.leave)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
