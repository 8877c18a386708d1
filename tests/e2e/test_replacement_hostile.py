"""A broker that becomes a new one, and what can go wrong: strange clients, signals, no program."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.client.sync import Connection
from furiosa.common.channel import Decoder, encode, receive, send
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import leases_pb2
from support.clients import HOLD, Client
from support.daemon import BROKER, Daemon
from support.replacing import ready, replaced

PE0, PE1 = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:0:1")


class Raw:
    """A client without manners."""

    def __init__(self, daemon: Daemon) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(daemon.handoff))
        self._decoder = Decoder(1 << 22)

    def send(self, data: bytes, *descriptors: int) -> None:
        sent = send(self.sock, data, descriptors)
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def hear(self) -> pb.Frame:
        """The next frame; its descriptors are closed. Raises: EOFError."""
        while True:
            for message in self._decoder.messages():
                message.close()
                return pb.Frame.FromString(message.payload)
            data, descriptors = receive(self.sock)
            if not data:
                raise EOFError
            self._decoder.feed(data, descriptors)


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    """One that has a session."""
    client = Raw(daemon)
    client.send(framed(pb.Frame(hello=pb.Hello(protocol_version=1, client="raw"))))
    assert client.hear().welcome.session_token
    yield client
    client.sock.close()


@pytest.fixture
def neighbour(daemon: Daemon) -> Iterator[Connection]:
    """A client that behaves, whose lease must survive."""
    with Connection.open(client="neighbour") as connection:
        lease = connection.acquire(PE1)
        yield connection
        assert lease.id in [found.id for found in connection.leases()]


def framed(frame: pb.Frame, descriptors: int = 0) -> bytes:
    return encode(frame.SerializeToString(), range(descriptors))


def call(number: int, method: str, request: bytes = b"") -> pb.Frame:
    return pb.Frame(id=number, call=pb.Call(method=method, request=request))


def test_half_a_call_before_and_half_after_is_answered(
    daemon: Daemon, raw: Raw, neighbour: Connection
) -> None:
    data = framed(call(7, "Leases/List"))
    raw.send(data[:9])
    replaced(daemon)
    raw.send(data[9:])
    answer = raw.hear()
    assert answer.id == 7
    listed = leases_pb2.ListLeasesResponse.FromString(answer.reply.response)
    assert len(listed.leases) == 1


def test_a_frame_cut_after_its_descriptors_keeps_them(
    daemon: Daemon, raw: Raw, neighbour: Connection
) -> None:
    request = pb.LoadProgramDescriptorRequest(lease_id="none").SerializeToString()
    data = framed(call(7, "Session/LoadProgram", request), 1)
    memory = os.memfd_create("no program", os.MFD_ALLOW_SEALING)
    raw.send(data[:2], memory)
    os.close(memory)
    replaced(daemon, 2)
    raw.send(data[2:])
    failure = raw.hear().failure
    assert failure.detail.reason == "UNKNOWN_LEASE", "it came as far as to look at the lease"


def test_a_client_that_takes_no_answers_gets_all_of_them_later(
    daemon: Daemon, raw: Raw, neighbour: Connection
) -> None:
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    numbers = range(1, 3001)
    raw.send(b"".join(framed(call(number, "Leases/List")) for number in numbers))
    replaced(daemon, 2)
    assert [raw.hear().id for _ in numbers] == list(numbers)


@pytest.mark.parametrize("data", [b"\xff" * 5, b"\x05\x00\x00\x00\x03hello"])
def test_garbage_that_arrives_meanwhile_ends_its_connection_only(
    daemon: Daemon, raw: Raw, neighbour: Connection, data: bytes
) -> None:
    daemon.signal(signal.SIGUSR2)
    raw.send(data)
    ready(daemon, 2)
    with pytest.raises((EOFError, ConnectionResetError)):
        raw.hear()


def test_one_who_never_says_hello_is_hung_up_on_and_delays_nobody_for_long(
    daemon: Daemon, neighbour: Connection
) -> None:
    silent = Raw(daemon)
    neighbour.leases()  # by now it has been accepted
    replaced(daemon)
    with pytest.raises((EOFError, ConnectionResetError)):
        silent.hear()
    silent.sock.close()


def test_an_owner_that_dies_in_the_middle_leaves_nothing(
    daemon: Daemon, neighbour: Connection
) -> None:
    for _ in range(2):
        with Client(HOLD.format(spec="npu:0:0", megabytes=0), daemon.environ) as owner:
            assert owner.line()
            before = daemon.log.count("broker.left")
            daemon.signal(signal.SIGUSR2)
            daemon.logged("broker.left", before + 1)
            owner.kill()
        neighbour.release(neighbour.acquire(PE0, wait_limit=60).id)


def test_being_asked_twice_in_a_row_is_fine(daemon: Daemon, neighbour: Connection) -> None:
    for before in (1, 2):
        daemon.signal(signal.SIGUSR2)
        daemon.signal(signal.SIGUSR2)
        ready(daemon, before + 1)


@pytest.mark.parametrize("moment", ["broker.replacing", "broker.left", "broker.devices"])
def test_a_broker_that_is_told_to_leave_in_the_middle_leaves(daemon: Daemon, moment: str) -> None:
    with Connection.open(client="holder") as holder:
        holder.acquire(PE0)
        before = daemon.log.count(moment)
        daemon.signal(signal.SIGUSR2)
        daemon.logged(moment, before + 1)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    assert "broker.stopped" in daemon.log
    assert "lease.ended" in daemon.log
    assert not daemon.handoff.exists()


@pytest.fixture
def removable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Daemon, Path]]:
    """A broker, and the interpreter that it needs to become another one."""
    program = tmp_path / "python"
    program.symlink_to(Path(sys.executable).resolve())
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # a link knows no virtual environment
        daemon = Daemon(1, program=(str(program), *BROKER[1:]))
        try:
            daemon.start()
            patch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
            yield daemon, program
        finally:
            daemon.stop()


def test_a_broker_whose_program_is_gone_ends_and_the_next_one_takes_over_the_leases(
    removable: tuple[Daemon, Path],
) -> None:
    daemon, program = removable
    holder = Connection.open(client="holder")
    lease = holder.acquire(PE0)
    target = program.readlink()
    program.unlink()
    daemon.signal(signal.SIGUSR2)
    assert daemon.wait() == 1
    assert "broker.not_replaced" in daemon.log
    assert "No such file" in daemon.log
    with contextlib.suppress(Exception):
        holder.close()
    program.symlink_to(target)
    daemon.start()
    with Connection.open(client="holder") as again:
        (found,) = again.leases()
        assert (found.id, found.state) == (lease.id, LeaseState.DETACHED)
        assert again.resume(lease.id).state is LeaseState.GRANTED
        again.release(lease.id)


def test_a_lease_that_is_being_taken_back_is_taken_back(daemon: Daemon) -> None:
    with Connection.open(client="holder") as holder, Connection.open(client="admin") as admin:
        late, soon = holder.acquire(PE0), holder.acquire(PE1)
        before = admin.revoke(late.id, grace=600, reason="a test")
        admin.revoke(soon.id, grace=1, reason="a test")
        replaced(daemon)
        (found,) = (lease for lease in admin.leases() if lease.id == late.id)
        assert found.state is LeaseState.RECALLED
        assert found.ends_at == pytest.approx(before.ends_at, abs=0.1)
        admin.release(admin.acquire(PE1, wait_limit=60).id)
