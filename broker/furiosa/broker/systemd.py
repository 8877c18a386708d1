"""What a service says to systemd, and what it is handed: no library, a few datagrams and variables.

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
"""

import array
import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import anyio

from furiosa.broker.log import event

log = logging.getLogger(__name__)

FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START
MOST_NAME_BYTES: Final = 255
PATIENCE_SECONDS: Final = 5.0  # for systemd to read what we said; it may be busy starting others
UNNAMED: Final = "unknown"  # what descriptors without LISTEN_FDNAMES are called


class BadDescriptor(Exception):
    """A descriptor we were handed is not what its name says; the text says what it is."""


class Notifier:
    """The socket that systemd reads. Without one (`address` is None) every word is lost, quietly.

    The short words (`ready`, `watchdog`, ...) never wait: should systemd not read for so long that its
    queue is full, one is dropped with a log line. What hands over descriptors waits, bounded.
    """

    def __init__(self, address: str | None) -> None:
        """Raises: OSError when nobody listens there."""
        self._socket: socket.socket | None = None
        if address is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            except BaseException:
                sock.close()
                raise
            self._socket = sock

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """NOTIFY_SOCKET stays in `environ`, for a successor by re-exec. Raises: OSError."""
        return cls(environ.get("NOTIFY_SOCKET") or None)

    @property
    def is_heard(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str = "") -> None:
        """`status` is what `systemctl status` shows; one line."""
        self._say("READY=1", *_status(status))

    def reloading(self) -> None:
        """To be followed by `ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def watchdog(self) -> None:
        self._say("WATCHDOG=1")

    async def store(self, name: str, descriptor: int) -> None:
        """Have systemd keep a duplicate and hand it to our next start, under `name`.

        Also when its peer hangs up. Raises: ValueError for a name that systemd refuses; OSError,
        TimeoutError.
        """
        check_name(name)
        await self._hand_over(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", descriptor)

    async def forget(self, name: str) -> None:
        """Have systemd close what it keeps under `name`; no effect if there is nothing.

        As long as it keeps a socket, our closing it is not seen by the peer. Raises: as `store`.
        """
        check_name(name)
        await self._hand_over(f"FDSTOREREMOVE=1\nFDNAME={name}")

    async def settled(self) -> None:
        """Until systemd has dealt with all that was said before. Raises: OSError, TimeoutError."""
        if self._socket is None:
            return
        reader, writer = os.pipe()
        try:
            try:
                await self._hand_over("BARRIER=1", writer)
            finally:
                os.close(writer)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await anyio.wait_readable(reader)  # systemd closed its end
        finally:
            os.close(reader)

    def _say(self, *assignments: str) -> None:
        if self._socket is None:
            return
        text = "\n".join(assignments)
        try:
            self._socket.send(text.encode())
        except OSError as exc:
            event(log, "systemd.not_told", logging.WARNING, text=text, cause=exc)

    async def _hand_over(self, text: str, *descriptors: int) -> None:
        if self._socket is None:
            return
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    self._socket.sendmsg([text.encode()], ancillary)
                    return
                except BlockingIOError:  # its queue is full
                    await anyio.wait_writable(self._socket)


def check_name(name: str) -> None:
    """Whether systemd takes it for a descriptor. Raises: ValueError."""
    if not (0 < len(name) <= MOST_NAME_BYTES and name.isascii() and name.isprintable()):
        raise ValueError(f"descriptor name {name!r}: expected 1..255 printable ASCII characters")
    if ":" in name:
        raise ValueError(f"descriptor name {name!r}: expected no ':', which separates names")


def listen_fds(environ: MutableMapping[str, str]) -> dict[str, int]:
    """The descriptors systemd started us with, by name, close-on-exec and yours; once.

    Empty when there are none or when they are another process's. Of several with one name the first
    is taken and the others are closed. The variables are removed, so that no child takes them for its
    own. Raises: BadDescriptor when the variables contradict themselves or the descriptors are not there.
    """
    values = [environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    environ.pop("LISTEN_PIDFDID", None)
    pid, number, names = values
    if pid != str(os.getpid()):
        return {}
    if not (number.isascii() and number.isdecimal()):
        raise BadDescriptor(f"LISTEN_FDS is {number!r}, expected a number")
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(number))
    given = names.split(":") if names else [UNNAMED] * len(descriptors)
    if len(given) != len(descriptors):
        raise BadDescriptor(f"LISTEN_FDS says {number} and LISTEN_FDNAMES names {len(given)}")
    taken: dict[str, int] = {}
    for name, descriptor in zip(given, descriptors, strict=True):
        try:
            os.set_inheritable(descriptor, False)
        except OSError as exc:
            raise BadDescriptor(f"descriptor {descriptor} ({name}): {exc.strerror}") from None
        if name in taken:
            event(log, "systemd.surplus_descriptor", logging.WARNING, name=name)
            os.close(descriptor)
        else:
            taken[name] = descriptor
    return taken


def unix_listener(name: str, descriptor: int) -> socket.socket:
    """Takes the descriptor, as the non-blocking listening Unix socket that it has to be.

    Raises: BadDescriptor; the descriptor is closed.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise BadDescriptor(f"descriptor {descriptor} ({name}): {exc.strerror}") from None
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listens:
        shown = f"{_called(sock.family)} {_called(sock.type)}" + (", listening" if listens else "")
        sock.close()
        raise BadDescriptor(
            f"descriptor {descriptor} ({name}) is {shown}; expected AF_UNIX SOCK_STREAM, listening"
        )
    sock.setblocking(False)
    return sock


@dataclass(frozen=True, slots=True)
class Watchdog:
    """systemd kills us when no ping came for `seconds`; it advises to ping twice as often."""

    seconds: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """None: nobody watches this process. The variables stay, for a successor by re-exec."""
        pid, period = environ.get("WATCHDOG_PID"), environ.get("WATCHDOG_USEC", "")
        if pid not in (None, str(os.getpid())):
            return None
        if not (period.isascii() and period.isdecimal() and int(period) > 0):
            return None
        return cls(int(period) / 1e6)

    async def run(self, notifier: Notifier) -> None:
        """Ping until cancelled; as a task of the loop whose hanging is to be noticed."""
        while True:
            notifier.watchdog()
            await asyncio.sleep(self.seconds / 2)


def _status(text: str) -> Sequence[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _called(value: int) -> str:
    return getattr(value, "name", str(value))
