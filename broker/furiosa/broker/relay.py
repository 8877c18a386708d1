"""Connections that arrive on a listener of ours, passed on byte by byte to gRPC's own Unix socket.

gRPC for Python cannot adopt a listening descriptor. So where the listener comes from outside (socket
activation), or must outlive the process (a re-exec), we accept on it and relay.

How a broker that bound its own path is replaced without refusing anybody: `listen_over` puts a plain
listener in the place of gRPC's, whose backlog takes who comes; the successor has its gRPC listen under
another name, puts that in place with `move_over`, and gives who queued meanwhile to `drain_into`. gRPC
removes, when it stops, the name that it was told, whoever listens there by then: so it must never be told
the public one.
"""

import asyncio
import collections
import logging
import os
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furiosa.broker.log import event

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # the kernel cuts it to net.core.somaxconn
CHUNK_BYTES: Final = 64 * 1024  # the most that is held of one direction of one connection
ACCEPT_AT_ONCE: Final = 64  # then it is the turn of those who are connected
RETRY_SECONDS: Final = 0.1  # after running out of descriptors
CONNECT_ATTEMPTS: Final = 50  # while the target's backlog is full
CONNECT_RETRY_SECONDS: Final = 0.02
LINGER_SECONDS: Final = 1.0  # for those who looked the name up before it was moved
DESCRIPTORS_OF_CONNECTION: Final = 8  # two here, one in gRPC; the rest is for everything else
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


def listen_over(
    path: Path, mode: int, share: Callable[[Path], None] | None = None
) -> socket.socket:
    """Listen at `path`, in the place of whoever does: there is no moment at which nobody listens.

    Who connected before stays with the one before. `share(name)` is called, before anybody can find it,
    to give the new socket to its group. Raises: OSError.
    """
    name = aside(path)
    name.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(name))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        move_over(name, path, mode, share)
    except BaseException:
        listener.close()
        name.unlink(missing_ok=True)
        raise
    return listener


def aside(path: Path) -> Path:
    """The name that a socket is made under before it takes the place of `path`."""
    return path.with_name(path.name + "~")


def move_over(
    name: Path, path: Path, mode: int, share: Callable[[Path], None] | None = None
) -> None:
    """Have the socket `name`, which listens already, found at `path` from now on. Raises: OSError."""
    name.chmod(mode)
    if share is not None:
        share(name)
    name.rename(path)


async def drain_into(listener: socket.socket, target: Path) -> None:
    """Relay what queued on a listener that nobody finds any more, then close it.

    Returns when the last of these connections has ended; cancel it to end them. Takes the listener.
    """
    relay = Relay(listener, target)
    try:
        relay.start()
        await asyncio.sleep(LINGER_SECONDS)
        relay.stop_accepting()
        await relay.ended()
    finally:
        relay.close()


class Relay:
    """Takes the listener. At most `most` connections at once, half of them of one user.

    Past `most` who comes waits in the backlog; a user who has his half is hung up on.
    """

    def __init__(self, listener: socket.socket, target: Path, most: int = 0) -> None:
        """`most` of 0: what the limit of open files allows."""
        listener.setblocking(False)
        self._listener = listener
        self._target = str(target)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = most or max(2, soft // DESCRIPTORS_OF_CONNECTION)
        self._links: set[_Link] = set()
        self._of_user: collections.Counter[int] = collections.Counter()
        self._accepts = False
        self._suspended = False
        self._pause: asyncio.TimerHandle | None = None
        self._none_left = asyncio.Event()
        # All connections read into one buffer: what was read leaves it before the next one reads.
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    async def run(self) -> None:
        """Until cancelled; then all connections are closed."""
        self.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.close()

    def start(self) -> None:
        self._pause = None
        if self._suspended:
            return
        self._accepts = True
        asyncio.get_running_loop().add_reader(self._listener, self._acceptable)

    def suspend(self) -> None:
        """Accept nobody any more; who comes waits for the listener's next owner."""
        self._suspended = True
        self._hold()

    def stop_accepting(self) -> None:
        """Takes who is waiting already, as far as there is room, and closes the listener."""
        if self._accepts:
            while len(self._links) < self._most and self._accept_one():
                pass
        self._hold()
        self._listener.close()

    async def ended(self) -> None:
        """Until there is no connection."""
        while self._links:
            self._none_left.clear()
            await self._none_left.wait()

    def close(self) -> None:
        """No effect the second time."""
        self._hold()
        self._listener.close()
        for link in tuple(self._links):
            link.close()

    def _hold(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._accepts:
            self._accepts = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _acceptable(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if len(self._links) >= self._most:
                event(log, "relay.full", logging.WARNING, connections=len(self._links))
                self._hold()
                return
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """False when nobody waits, or there are no descriptors."""
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as exc:  # those who are connected must not suffer
            event(log, "relay.not_accepted", logging.ERROR, cause=exc)
            self._hold()
            self._pause = asyncio.get_running_loop().call_later(RETRY_SECONDS, self.start)
            return False
        user = _user_of(client)
        if self._of_user[user] >= self._most // 2:
            event(log, "relay.refused", logging.WARNING, uid=user, connections=self._of_user[user])
            client.close()
            return True
        try:
            link = _Link(client, self._buffer, lambda link: self._ended(link, user))
        except OSError as exc:
            event(log, "relay.not_connected", logging.ERROR, cause=exc)
            client.close()
            return True
        self._of_user[user] += 1
        self._links.add(link)
        link.connect(self._target, CONNECT_ATTEMPTS)
        return True

    def _ended(self, link: "_Link", user: int) -> None:
        was_full = len(self._links) >= self._most
        self._links.discard(link)
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]
        if not self._links:
            self._none_left.set()
        if was_full and self._listener.fileno() >= 0:
            self.start()


class _Link:
    """A client and its connection to the target: two directions, each holding one chunk at most."""

    def __init__(
        self, client: socket.socket, buffer: memoryview, on_end: Callable[["_Link"], None]
    ) -> None:
        """Takes `client`, unless it raises. Raises: OSError."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in (client, server):
            sock.setblocking(False)
        self._sockets = (client, server)
        self._server = server
        self._on_end = on_end
        self._ways = (_Way(self, client, server, buffer), _Way(self, server, client, buffer))
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    def connect(self, target: str, attempts: int) -> None:
        self._retry = None
        try:
            self._server.connect(target)
        except BlockingIOError as exc:  # its backlog is full; no event tells when it is not
            if attempts > 1:
                self._retry = asyncio.get_running_loop().call_later(
                    CONNECT_RETRY_SECONDS, self.connect, target, attempts - 1
                )
            else:
                self._not_connected(target, exc)
        except OSError as exc:
            self._not_connected(target, exc)
        else:
            for way in self._ways:
                way.start()

    def _not_connected(self, target: str, exc: OSError) -> None:
        event(log, "relay.not_connected", logging.ERROR, target=target, cause=exc)
        self.close()

    def way_ended(self) -> None:
        if all(way.ended for way in self._ways):
            self.close()

    def close(self) -> None:
        """No effect the second time."""
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            sock.close()
        self._on_end(self)


class _Way:
    """One direction. What the sink does not take at once stops the reading until it is gone."""

    def __init__(
        self, link: _Link, source: socket.socket, sink: socket.socket, buffer: memoryview
    ) -> None:
        self.ended = False
        self._link = link
        self._source = source
        self._sink = sink
        self._buffer = buffer
        self._unsent = memoryview(b"")
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_reader(self._source, self._readable)

    def _readable(self) -> None:
        try:
            size = self._source.recv_into(self._buffer)
            if size == 0:
                self._loop.remove_reader(self._source)
                self.ended = True
                self._sink.shutdown(socket.SHUT_WR)
                self._link.way_ended()
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._link.close()
            return
        sent = self._send(self._buffer[:size])
        if 0 <= sent < size:
            self._unsent = memoryview(bytes(self._buffer[sent:size]))
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._writable)

    def _writable(self) -> None:
        sent = self._send(self._unsent)
        if sent < 0:
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._sink)
            self.start()

    def _send(self, data: memoryview) -> int:
        """How many bytes were taken; -1 when the connection has ended."""
        try:
            return self._sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._link.close()
            return -1


def _user_of(client: socket.socket) -> int:
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
