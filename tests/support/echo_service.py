"""A service for the broker's units that does the broker's part with systemd, and else only echoes.

Run as a program. It answers each line on the handoff socket with its pid and how it came to the
connection: accepted, or kept. SIGTERM leaves the connections to systemd, SIGUSR2 to the next program in
this process, SIGHUP reloads nothing.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys

from furiosa.broker import handover
from furiosa.broker.log import event, set_up
from furiosa.broker.saved import BrokerState, SavedSession
from furiosa.broker.systemd import Notifier, Watchdog, listen_fds, unix_listener

log = logging.getLogger(__name__)

LISTENERS = ("grpc", "handoff")


async def main() -> None:
    set_up("INFO")
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        loop.add_signal_handler(number, signals.put_nowait, number)
    handover.release_signals()
    notifier = Notifier.from_environment(os.environ)
    left = handover.from_environment(os.environ)
    if left is None:
        left = await handover.from_store(listen_fds(os.environ), notifier)
    sessions = left.usable(LISTENERS).sessions
    listeners: dict[str, socket.socket] = {}
    for name in LISTENERS:
        descriptor = left.take(name)
        assert descriptor is not None
        listeners[name] = unix_listener(name, descriptor)
    ids = itertools.count(1 + max((saved.id for saved in sessions), default=0))
    open_ones: dict[int, tuple[socket.socket, int]] = {}

    def serve(number: int, client: socket.socket, how: str, pidfd: int) -> None:
        client.setblocking(False)
        open_ones[number] = (client, pidfd)
        group.create_task(echo(number, client, how, pidfd))

    async def echo(number: int, client: socket.socket, how: str, pidfd: int) -> None:
        while line := await loop.sock_recv(client, 100):
            await loop.sock_sendall(client, b"%d %s %s" % (os.getpid(), how.encode(), line))
        event(log, "echo.ended", how=how)
        del open_ones[number]
        client.close()
        os.close(pidfd)

    def accept() -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = listeners["handoff"].accept()
            # in place of a pidfd: the peer's would tell the truth, which is no part of these tests
            pidfd = os.memfd_create("pidfd")
            serve(next(ids), client, "accepted", pidfd)

    def collected() -> handover.Handover:
        loop.remove_reader(listeners["handoff"])  # who comes now is the successor's
        descriptors: dict[str, int] = {}
        saved: list[SavedSession] = []
        for number, (client, pidfd) in open_ones.items():
            descriptors |= {f"s{number}": client.fileno(), f"p{number}": pidfd}
            names = (f"s{number}", f"p{number}")
            saved.append(SavedSession(number, "token", "echo", 1, 0, 0, 1, number, *names))
        return handover.collect(descriptors, BrokerState(tuple(saved)))

    async with asyncio.TaskGroup() as group:
        for saved in sessions:
            client, pidfd = left.take(saved.socket), left.take(saved.pidfd)
            assert client is not None
            assert pidfd is not None
            serve(saved.id, socket.socket(fileno=client), "kept", pidfd)
        loop.add_reader(listeners["handoff"], accept)
        if (watchdog := Watchdog.from_environment(os.environ)) is not None:
            group.create_task(watchdog.run(notifier))
        notifier.ready(f"{len(sessions)} kept")
        while True:
            match await signals.get():
                case signal.SIGHUP:
                    notifier.reloading()
                    notifier.ready("reloaded")
                case signal.SIGUSR2:
                    notifier.reloading()
                    successor = collected()
                    successor.descriptors |= {n: s.fileno() for n, s in listeners.items()}
                    handover.exec_with(successor, sys.executable, sys.orig_argv, os.environ)
                case _:
                    notifier.stopping()
                    await handover.store(collected(), notifier)
                    os._exit(0)


asyncio.run(main())
