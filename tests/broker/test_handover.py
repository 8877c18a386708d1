"""What one process leaves to the next: by a real exec, and through a stand-in for systemd's store."""

import array
import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker import handover
from furiosa.broker.handover import (
    VARIABLE,
    Handover,
    collect,
    exec_with,
    from_environment,
    packed,
    unpacked,
)
from furiosa.broker.saved import BrokerState, SavedFrame, SavedSession
from furiosa.broker.systemd import Notifier
from support.queues import open_descriptors

LEFT, LATER = "s7", "s8"
STATE = BrokerState(
    (
        SavedSession(7, "token7", "test", 4242, 0, 0, 1, 99, LEFT, "p7"),
        SavedSession(
            *(8, "token8", "test", 4243, 0, 0, 1, 98, LATER, "p8"),
            received=SavedFrame(b"\0", ("r8",)),
        ),
    )
)
NAMES = ("grpc", "s7", "p7", "s8", "p8", "r8")


@pytest.fixture
def pipes() -> Iterator[dict[str, int]]:
    """A descriptor for each name; all but those still open are closed afterwards."""
    opened = {name: os.memfd_create(name) for name in NAMES}
    yield opened
    for descriptor in opened.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_whole_sessions_are_taken_and_the_rest_is_closed(pipes: dict[str, int]) -> None:
    left = Handover({**pipes, "stray": (stray := os.dup(0))}, STATE.to_json())
    assert left.usable(keep=("grpc",)).sessions == STATE.sessions
    assert not is_open(stray)
    assert left.take("s7") == pipes["s7"]
    assert left.take("s7") is None
    left.close()
    assert [name for name in NAMES if is_open(pipes[name])] == ["s7"]


def test_a_session_that_lacks_a_descriptor_is_closed_alone(
    pipes: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    os.close(pipes["r8"])
    left = Handover({name: pipes[name] for name in NAMES if name != "r8"}, STATE.to_json())
    assert left.usable(keep=("grpc",)).sessions == STATE.sessions[:1]
    assert "handover.session_lost session=8 pid=4243 lacks=r8" in caplog.text
    assert [name for name in NAMES if is_open(pipes[name])] == ["grpc", "s7", "p7"]


@pytest.mark.parametrize("state", [b'{"version":2,"sessions":[]}', STATE.to_json()[:-1], b"\0"])
def test_a_state_that_cannot_be_used_is_ignored_and_listeners_stay(
    pipes: dict[str, int], state: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert Handover(dict(pipes), state).usable(keep=("grpc",)).sessions == ()
    assert "handover.ignored" in caplog.text
    assert [name for name in NAMES if is_open(pipes[name])] == ["grpc"]


def test_what_is_collected_must_be_complete(pipes: dict[str, int]) -> None:
    assert collect(pipes, STATE).usable(keep=("grpc",)).sessions == STATE.sessions
    with pytest.raises(ValueError, match="session 8 lacks its descriptor 'r8'"):
        collect({name: pipes[name] for name in NAMES if name != "r8"}, STATE)
    for name in ("state", "", "a\0b", "x" * 65):
        with pytest.raises(ValueError, match=r"descriptor name .*: expected 1\.\.64 bytes"):
            collect({name: 0}, BrokerState())


# Becomes SUCCESSOR; the test holds the other end of descriptor 0 and sends it signals meanwhile.
PREDECESSOR = """
import os, signal, socket, sys, threading, time
from furiosa.broker.handover import collect, exec_with
from furiosa.broker.saved import BrokerState, SavedSession
session, pidfd = os.dup(0), os.pidfd_open(os.getpid())
state = BrokerState((SavedSession(7, "t", "test", 1, 0, 0, 1, 99, "s7", "p7"),))
left = collect({"s7": session, "p7": pidfd, "stray": os.dup(pidfd)}, state)
signal.signal(signal.SIGHUP, lambda *_: None)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
noted = []
signal.signal(signal.SIGINT, lambda *_: noted.append("int"))
execve = os.execve
def late(*arguments):  # the other thread takes a signal when nobody looks at what is noted any more
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(20_000):  # some 20 s, should the signal never be noted
        if noted:
            break
        time.sleep(0.001)
    execve(*arguments)
os.execve = late
program = [sys.executable, "-c", sys.argv[1]]
exec_with(left, sys.executable, program, os.environ, [signal.SIGTERM, signal.SIGTERM])
"""
SUCCESSOR = """
import os, signal, socket
from furiosa.broker.handover import VARIABLE, from_environment, release_signals
os.kill(os.getpid(), signal.SIGHUP)
left = from_environment(os.environ)
[saved] = left.usable().sessions
descriptor = left.take(saved.socket)
heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append("hup"))
signal.signal(signal.SIGTERM, lambda *_: heard.append("term"))
signal.signal(signal.SIGINT, lambda *_: heard.append("int"))
release_signals()
said = [saved.id, sorted(left.descriptors), VARIABLE in os.environ, os.get_inheritable(descriptor), heard]
socket.socket(fileno=descriptor).sendall(repr(said).encode())
"""


def test_a_connection_outlives_the_program_that_took_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", PREDECESSOR, SUCCESSOR], stdin=theirs.fileno()
        )
        theirs.close()
        ours.settimeout(20)
        assert ours.recv(4096) == b"[7, ['p7'], False, False, ['hup', 'int', 'term']]"
        assert ours.recv(1) == b""
        assert process.wait() == 0


def test_an_exec_that_fails_leaves_everything_as_it_was(pipes: dict[str, int]) -> None:
    os.set_inheritable(pipes["grpc"], True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        exec_with(collect(pipes, STATE), "/nowhere/furiosa-brokerd", ["furiosa-brokerd"], {})
    assert [name for name in NAMES if os.get_inheritable(pipes[name])] == ["grpc"]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    assert open_descriptors() == before


def test_what_was_left_to_another_process_is_not_taken() -> None:
    environ = {VARIABLE: f"{os.getpid() + 1}:0:0"}
    assert from_environment(environ) is None
    assert environ == {}
    assert from_environment({}) is None


def test_a_parcel_that_is_none_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    none, nothing = os.memfd_create("none"), os.memfd_create("no signals")
    left = from_environment({VARIABLE: f"{os.getpid()}:{none}:{nothing}"})
    assert left == Handover({}, b"")
    assert "handover.ignored" in caplog.text
    assert from_environment({VARIABLE: f"{os.getpid()}:0:x"}) is None


def test_thousands_of_descriptors_fit_and_arrive_close_on_exec(pipes: dict[str, int]) -> None:
    names = [f"name-of-descriptor-{number}" for number in range(6000)]
    with packed(Handover(dict.fromkeys(names, pipes["grpc"]), b"{}")) as parcel:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            left = unpacked(parcel.detach())
            assert sorted(left.descriptors) == sorted(names)
            assert not any(map(os.get_inheritable, left.descriptors.values()))
            assert left.state == b"{}"
            left.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_received_past_the_limit_of_descriptors_is_lost_alone(
    pipes: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with packed(collect(pipes, STATE)) as parcel:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 4, hard))
        try:
            left = unpacked(parcel.detach())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "handover.ignored" in caplog.text
    assert left.usable(keep=("grpc",)).sessions in ((), STATE.sessions[:1])
    left.close()


def test_a_parcel_that_nobody_opens_is_the_end_of_what_is_in_it() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        parcel = packed(Handover({"s": theirs.fileno()}, b""))
        theirs.close()
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        parcel.close()
        assert ours.recv(1) == b""


class Store:
    """What systemd does with what it is asked to keep."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.kept: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(64))
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        word, _, name = data.decode().partition("\nFDNAME=")
        if word == "FDSTORE=1\nFDPOLL=0":
            [self.kept[name]] = descriptors
        elif word == "FDSTOREREMOVE=1":
            if name in self.kept:
                os.close(self.kept.pop(name))
        else:
            assert word == "BARRIER=1"
            os.close(descriptors[0])

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


async def test_what_is_stored_is_what_the_next_start_gets(
    pipes: dict[str, int], folder: Path
) -> None:
    systemd = Store(folder)
    with contextlib.closing(Notifier(systemd.address)) as notifier:
        await handover.store(collect(pipes, STATE), notifier)
        assert list(systemd.kept) == ["handover"]
        listener = os.memfd_create("handoff")
        given = {"handover": os.dup(systemd.kept["handover"]), "handoff": listener}
        left = await handover.from_store(given, notifier)
        await notifier.settled()
        assert systemd.kept == {}
    systemd.close()
    assert left.usable(keep=("grpc", "handoff")).sessions == STATE.sessions
    assert set(left.descriptors) == {*NAMES, "handoff"}
    assert left.descriptors["handoff"] == listener
    for name in NAMES:
        assert os.path.sameopenfile(left.descriptors[name], pipes[name])
    left.close()


async def test_without_a_stored_state_there_are_listeners_only(pipes: dict[str, int]) -> None:
    left = await handover.from_store({"grpc": pipes["grpc"]}, Notifier(None))
    assert left.usable(keep=("grpc",)).sessions == ()
    assert left.take("grpc") == pipes["grpc"]


def test_a_state_that_is_not_sealed_is_not_believed(
    pipes: dict[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handover, "SEALS", fcntl.F_SEAL_SEAL)
    parcel = packed(collect(pipes, STATE))
    monkeypatch.undo()
    left = unpacked(parcel.detach())
    assert "handover.ignored" in caplog.text
    assert left.usable().sessions == ()
    assert left.descriptors == {}
