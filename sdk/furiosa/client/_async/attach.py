"""From an address, or none, to a session: connect, greet, and start a broker where that is the rule."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

from furiosa.client import embedded, remote
from furiosa.client._async import io
from furiosa.client._async.session import Session
from furiosa.client.address import SYSTEM, Address, TcpAddress, UnixAddress, from_environment
from furiosa.common.errors import BrokerDraining, BrokerUnavailable

CONNECT_SECONDS: Final = 5.0  # while the broker has more callers than it can accept
LOCK_SECONDS: Final = 4 * embedded.START_SECONDS  # several may fail before it is our turn
_PAUSE_SECONDS: Final = 0.01


def default_address() -> Address | None:
    """Where FURIOSA_BROKER says, else the system's broker if there is one; None: the user's own.

    Raises: BadArgument for a bad environment variable.
    """
    address = from_environment(os.environ)
    if address is None and os.path.exists(SYSTEM.path):
        address = SYSTEM
    return address


async def attach(address: Address | None, client: str) -> Session:
    """A session at `address`; None: with the user's own broker, which is started if need be.

    Raises: BrokerUnavailable; BadArgument for a bad environment variable; what the broker says.
    """
    if address is None:
        return await attach_embedded(client, os.environ)
    return await attach_to(address, client)


async def attach_to(address: Address, client: str) -> Session:
    if isinstance(address, TcpAddress):
        sock: socket.socket = remote.connect(address)
    else:
        assert isinstance(address, UnixAddress)
        sock = await _connect(address)
    session = Session(sock, str(address))
    try:
        await session.greet(client)
    except BaseException:
        session.close()
        raise
    return session


async def attach_embedded(
    client: str, environ: Mapping[str, str], command: embedded.Command = embedded.command
) -> Session:
    """A session with the user's own broker; `command` is what starts it when nobody answers."""
    home = embedded.home(environ)
    try:
        return await attach_to(home.address, client)
    except (BrokerUnavailable, BrokerDraining):
        pass  # there is none, or it is just leaving
    lock = await _lock(home)
    try:
        try:
            return await attach_to(home.address, client)
        except (BrokerUnavailable, BrokerDraining):
            await _start(home, command)
        return await attach_to(home.address, client)
    finally:
        os.close(lock)


async def _connect(address: UnixAddress) -> socket.socket:
    deadline = time.monotonic() + CONNECT_SECONDS
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(address.handoff)
                return sock
            except BlockingIOError:  # its queue is full; the kernel offers nothing to wait on
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(str(address), "it accepts no connections") from None
            await io.pause(_PAUSE_SECONDS)
    except OSError as exc:
        sock.close()
        raise BrokerUnavailable(str(address), exc.strerror or str(exc)) from None
    except BaseException:
        sock.close()
        raise


async def _lock(home: embedded.Home) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        lock = embedded.try_lock(home)
        if lock is not None:
            return lock
        if time.monotonic() > deadline:
            cause = f"another process has been starting one for {LOCK_SECONDS:g} s"
            raise BrokerUnavailable(str(home.address), cause)
        await io.pause(_PAUSE_SECONDS)  # a blocking lock could not be cancelled


async def _start(home: embedded.Home, command: embedded.Command) -> None:
    deadline = time.monotonic() + embedded.START_SECONDS
    with embedded.Starting(home, command) as starting:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not await io.ready((starting.pipe,), (), left):
                cause = f"it was not ready within {embedded.START_SECONDS:g} s"
                raise starting.failure(cause)
            if starting.feed():
                return
