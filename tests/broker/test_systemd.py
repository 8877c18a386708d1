"""Against a notify socket of our own, and against the real socket activator."""

import array
import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker.systemd import (
    BadDescriptor,
    Notifier,
    Watchdog,
    check_name,
    listen_fds,
    unix_listener,
)

ACTIVATOR = shutil.which("systemd-socket-activate")
NOTIFY = shutil.which("systemd-notify")


class Manager:
    """What systemd does with its end of a notify socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def heard(self) -> str:
        return self.received()[0]

    def received(self) -> tuple[str, list[int]]:
        data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(64))
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        return data.decode(), list(descriptors)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    manager = Manager(str(folder / "notify"))
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    yield notifier
    notifier.close()


def test_each_word_is_what_sd_notify_documents(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("2 cards")
    assert manager.heard() == "READY=1\nSTATUS=2 cards"
    notifier.ready()
    assert manager.heard() == "READY=1"
    notifier.stopping()
    assert manager.heard() == "STOPPING=1"
    notifier.watchdog()
    assert manager.heard() == "WATCHDOG=1"


def test_a_status_cannot_smuggle_a_second_assignment(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("3 leases\nSTOPPING=1")
    assert manager.heard() == "READY=1\nSTATUS=3 leases STOPPING=1"


def test_a_reload_carries_the_time_that_systemd_compares_with(
    manager: Manager, notifier: Notifier
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    word, stamp = manager.heard().split("\n")
    assert word == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= after


def test_an_abstract_notify_socket_is_found() -> None:
    manager = Manager(f"@furiosa-test-{os.getpid()}")
    notifier = Notifier(manager.address)
    notifier.ready()
    assert manager.heard() == "READY=1"
    notifier.close()
    manager.socket.close()


async def test_without_a_notify_socket_every_word_is_lost_quietly() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.is_heard
    notifier.ready()
    await notifier.store("s1", 0)
    await notifier.settled()


def test_a_notify_socket_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Notifier(str(folder / "nobody"))


def test_a_short_word_is_dropped_rather_than_waited_for(
    manager: Manager, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    while "systemd.not_told" not in caplog.text:
        notifier.watchdog()
    assert manager.heard() == "WATCHDOG=1"


async def test_a_stored_descriptor_arrives_under_its_name(
    manager: Manager, notifier: Notifier
) -> None:
    with tempfile.TemporaryFile() as file:
        await notifier.store("s1", file.fileno())
        text, [descriptor] = manager.received()
        assert text == "FDSTORE=1\nFDPOLL=0\nFDNAME=s1"
        assert os.path.sameopenfile(descriptor, file.fileno())
        os.close(descriptor)
    await notifier.forget("s1")
    assert manager.received() == ("FDSTOREREMOVE=1\nFDNAME=s1", [])


async def test_storing_waits_while_the_queue_of_systemd_is_full(
    manager: Manager, notifier: Notifier
) -> None:
    async def store() -> None:
        for number in range(2000):
            await notifier.forget(f"s{number}")

    def read() -> None:
        for number in range(2000):
            assert manager.heard() == f"FDSTOREREMOVE=1\nFDNAME=s{number}"

    async with asyncio.TaskGroup() as group:
        group.create_task(store())
        await asyncio.sleep(0)  # the queue fills here, before anybody reads
        await asyncio.to_thread(read)


async def test_settled_is_when_systemd_has_closed_the_barrier(
    manager: Manager, notifier: Notifier
) -> None:
    waiting = asyncio.create_task(notifier.settled())
    text, [descriptor] = await asyncio.to_thread(manager.received)
    assert text == "BARRIER=1"
    await asyncio.sleep(0)
    assert not waiting.done()
    os.close(descriptor)
    await waiting


@pytest.mark.parametrize("name", ["", "a:b", "ä", "a\nb", "x" * 256])
def test_a_name_that_systemd_would_refuse_is_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match="descriptor name"):
        check_name(name)


def test_the_longest_name_is_taken() -> None:
    check_name("x" * 255)


def test_descriptors_of_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "grpc"}
    assert listen_fds(environ) == {}
    assert environ == {}


@pytest.mark.parametrize(
    ("number", "names", "complaint"),
    [("many", "", "LISTEN_FDS is 'many'"), ("2", "grpc", "LISTEN_FDS says 2 .* names 1")],
)
def test_contradictory_variables_are_refused(number: str, names: str, complaint: str) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": number, "LISTEN_FDNAMES": names}
    with pytest.raises(BadDescriptor, match=complaint):
        listen_fds(environ)


def test_a_descriptor_that_is_not_a_listening_unix_socket_is_named(folder: Path) -> None:
    with pytest.raises(BadDescriptor, match=r"\(grpc\): Socket operation on non-socket"):
        unix_listener("grpc", os.open(folder, os.O_RDONLY))
    with pytest.raises(BadDescriptor, match="is AF_UNIX SOCK_STREAM; expected"):
        unix_listener("grpc", socket.socket(socket.AF_UNIX).detach())
    tcp = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(BadDescriptor, match="is AF_INET SOCK_STREAM, listening; expected"):
        unix_listener("grpc", tcp.detach())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen()
    with unix_listener("grpc", listener.detach()) as taken:
        assert not taken.getblocking()


# Replies over the activated socket with what it was handed.
ACTIVATED = """
import json, os
from furiosa.broker.systemd import listen_fds, unix_listener
given = listen_fds(os.environ)
left = [name for name in os.environ if name.startswith("LISTEN_")]
inheritable = [fd for fd in given.values() if os.get_inheritable(fd)]
listeners = {name: unix_listener(name, fd) for name, fd in given.items()}
with listeners["grpc"] as listener:
    listener.setblocking(True)
    client, _ = listener.accept()
    client.sendall(json.dumps([sorted(given), left, inheritable]).encode())
    client.close()
"""


@pytest.mark.skipif(ACTIVATOR is None, reason="no systemd-socket-activate on this machine")
async def test_sockets_of_the_real_activator_are_taken_by_name(folder: Path) -> None:
    assert ACTIVATOR is not None
    process = await asyncio.create_subprocess_exec(
        *(ACTIVATOR, "-l", str(folder / "a"), "-l", str(folder / "b"), "--fdname=grpc:handoff"),
        *(sys.executable, "-c", ACTIVATED),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"Listening" not in await process.stderr.readline():
        pass
    while b"Listening" not in await process.stderr.readline():
        pass
    reader, writer = await asyncio.open_unix_connection(folder / "a")
    assert await reader.read() == b'[["grpc", "handoff"], [], []]'
    writer.close()
    await writer.wait_closed()
    assert await process.wait() == 0


# The descriptors must be 3 and 4, which only a process of its own can arrange.
SURPLUS = """
import os
from furiosa.broker.systemd import listen_fds
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="state:state")
first, second = os.pipe()
assert (first, second) == (3, 4)
assert listen_fds(os.environ) == {"state": 3}
try:
    os.fstat(4)
except OSError:
    print("closed")
"""


def test_of_two_descriptors_with_one_name_the_first_is_taken() -> None:
    done = subprocess.run([sys.executable, "-c", SURPLUS], capture_output=True, check=True)
    assert done.stdout == b"closed\n"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(
    environ: dict[str, str], seconds: float | None
) -> None:
    watchdog = Watchdog.from_environment(environ)
    assert (None if watchdog is None else watchdog.seconds) == seconds


async def test_the_watchdog_pings_at_once_and_again(manager: Manager, notifier: Notifier) -> None:
    pinging = asyncio.create_task(Watchdog(0.002).run(notifier))
    for _ in range(3):
        assert await asyncio.to_thread(manager.heard) == "WATCHDOG=1"
    pinging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pinging


@pytest.mark.skipif(NOTIFY is None, reason="no systemd-notify on this machine")
def test_the_stand_in_hears_the_real_systemd_notify(manager: Manager) -> None:
    assert NOTIFY is not None
    environ = {**os.environ, "NOTIFY_SOCKET": manager.address}
    subprocess.run([NOTIFY, "--no-block", "--ready", "--status=2 cards"], env=environ, check=True)
    assert set(manager.heard().split("\n")) >= {"READY=1", "STATUS=2 cards"}
