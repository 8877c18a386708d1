"""The units of deploy/ under a real systemd, with an echo service in the broker's place.

Proves what concerns systemd: which socket is which, that a restart refuses nobody and keeps connections,
that a stop does not, and that the sandbox lets all of this through.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import systemd
from support.systemd import Systemd

pytestmark = pytest.mark.skipif(systemd.missing() is not None, reason=str(systemd.missing()))

UNIT = "furiosa-brokerd.service"
SOCKETS = ("furiosa-brokerd.socket", "furiosa-brokerd-handoff.socket")
SERVICE = Path(systemd.__file__).with_name("echo_service.py")
PYTHONPATH = os.pathsep.join(
    str(systemd.DEPLOY.parent / root) for root in ("broker", "sdk", "protos")
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Systemd]:
    machine = Systemd()
    try:
        machine.install(
            f"Environment=PYTHONPATH={PYTHONPATH}",
            "WatchdogSec=2",
            f"ExecStartPre=/bin/sh -c 'while [ -e {machine.folder}/hold ]; do sleep 0.01; done'",
            command=f"{sys.executable} {SERVICE}",
        )
        machine.start()
        machine.run("systemd-sysusers", systemd.DEPLOY / "sysusers.d/furiosa.conf")
        machine.systemctl("start", *SOCKETS)
        yield machine
    finally:
        machine.stop()


class Client:
    def __init__(self, machine: Systemd) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        try:
            self.socket.connect(str(machine.path("/run/furiosa/broker.sock.handoff")))
        except OSError:
            self.socket.close()
            raise

    def ask(self) -> tuple[int, str]:
        """The pid that serves us, and how it came to the connection."""
        self.socket.sendall(b"x")
        pid, how, _ = self.socket.recv(100).split()
        return int(pid), how.decode()


@pytest.fixture
def connect(machine: Systemd) -> Iterator[Callable[[], Client]]:
    with contextlib.ExitStack() as stack:

        def connect() -> Client:
            client = Client(machine)
            stack.callback(client.socket.close)
            return client

        yield connect


def test_the_first_who_connects_starts_the_service(
    machine: Systemd, connect: Callable[[], Client]
) -> None:
    machine.systemctl("stop", UNIT)
    assert machine.show("ActiveState") == "inactive"
    pid, how = connect().ask()
    assert how == "accepted"
    assert machine.show("MainPID") == str(pid)
    machine.systemctl("is-active", UNIT)


def test_both_sockets_are_for_the_group_only(machine: Systemd) -> None:
    shown = machine.run(
        "stat",
        "--format=%A %U %G",
        *map(str, ("/run/furiosa/broker.sock", "/run/furiosa/broker.sock.handoff")),
    ).stdout
    assert shown == "srw-rw---- root furiosa\n" * 2


def test_a_restart_keeps_connections_and_refuses_nobody(
    machine: Systemd, connect: Callable[[], Client]
) -> None:
    early = connect()
    before, _ = early.ask()
    machine.systemctl("restart", "--no-block", UNIT)
    late = [connect() for _ in range(20)]
    pids = set()
    for client in late:
        pid, how = client.ask()
        pids.add(pid)
        assert how in ("accepted", "kept")
    machine.systemctl("start", UNIT)  # waits for the restart
    after, how = early.ask()
    assert after != before
    assert how == "kept"
    assert machine.show("MainPID") == str(after)
    assert machine.show("NFileDescriptorStore") == "0"  # let go of, or no one's end would be seen


def test_a_restart_keeps_hundreds_of_connections(
    machine: Systemd, connect: Callable[[], Client]
) -> None:
    clients = [connect() for _ in range(500)]
    for client in clients:
        client.ask()
    machine.systemctl("restart", UNIT)
    assert {client.ask()[1] for client in clients} == {"kept"}


def test_a_client_that_ends_during_the_restart_is_noticed(
    machine: Systemd, connect: Callable[[], Client]
) -> None:
    machine.systemctl("stop", UNIT)
    gone, stays = connect(), connect()
    for client in (gone, stays):
        client.ask()
    hold = machine.folder / "hold"
    hold.touch()  # the next start waits
    machine.systemctl("restart", "--no-block", UNIT)
    machine.shows("SubState", "start-pre")
    assert machine.show("NFileDescriptorStore") == "1"
    gone.socket.close()
    hold.unlink()
    assert stays.ask()[1] == "kept"
    machine.logged("echo.ended how=kept")


def test_a_new_program_in_the_same_process_keeps_connections(
    machine: Systemd, connect: Callable[[], Client]
) -> None:
    client = connect()
    before, how = client.ask()
    machine.systemctl("kill", "--kill-whom=main", "--signal=SIGUSR2", UNIT)
    while how != "kept":
        pid, how = client.ask()
        assert pid == before
    assert connect().ask() == (before, "accepted")
    machine.systemctl("is-active", UNIT)
    assert machine.show("NRestarts") == "0"


def test_a_stop_closes_connections(machine: Systemd, connect: Callable[[], Client]) -> None:
    client = connect()
    client.ask()
    machine.systemctl("stop", UNIT)
    assert client.socket.recv(1) == b""
    assert connect().ask()[1] == "accepted"  # and starts it again


def test_a_reload_is_acknowledged(machine: Systemd, connect: Callable[[], Client]) -> None:
    connect().ask()
    machine.systemctl("reload", UNIT)
    machine.shows("StatusText", "reloaded")  # SIGHUP is sent, not waited for
    machine.systemctl("is-active", UNIT)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_service_that_crashes_or_hangs_is_started_again(
    machine: Systemd, connect: Callable[[], Client], number: signal.Signals
) -> None:
    before, _ = connect().ask()
    machine.run("kill", f"-{number:d}", str(before))
    after, _ = connect().ask()
    assert after != before
