"""A client that breaks the rules of the handoff socket loses its session, and nobody else notices."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.channel import Decoder, encode, receive, send
from furiosa.common.selector import DeviceSpec
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.daemon import Daemon
from support.soak_leaks import descriptors_of
from support.waiting import until


@pytest.fixture
def neighbour(daemon: Daemon) -> Iterator[Connection]:
    """A client that behaves, whose lease must survive."""
    with Connection.open(client="neighbour") as connection:
        connection.acquire(DeviceSpec.parse("npu:0:1"))
        yield connection
        assert [str(f) for lease in connection.leases() for f in lease.device_files] == ["npu0pe1"]


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(daemon.handoff))
        yield sock


def say(sock: socket.socket, frame: pb.Frame, *descriptors: int) -> None:
    send(sock, encode(frame.SerializeToString(), descriptors), descriptors)


def hear(sock: socket.socket) -> pb.Frame | None:
    """The next frame; None at the end of the stream. Its descriptors are closed."""
    decoder = Decoder(1 << 20)
    while True:
        try:
            data, descriptors = receive(sock)
        except ConnectionResetError:
            return None
        if not data:
            return None
        decoder.feed(data, descriptors)
        for message in decoder.messages():
            message.close()
            return pb.Frame.FromString(message.payload)


HELLO = pb.Frame(hello=pb.Hello(protocol_version=1, client="raw"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x00",
        b"\x00" * 1000,
        b"\x05\x00\x00\x00\x09hello",
        encode(b"\xff\xff\xff"),
        encode(pb.Frame(id=1, call=pb.Call(method="Devices/List")).SerializeToString()),
    ],
    ids=["huge", "zeros", "no descriptors", "no protobuf", "no hello"],
)
def test_garbage_ends_the_connection(
    raw: socket.socket, neighbour: Connection, data: bytes
) -> None:
    raw.sendall(data)
    assert hear(raw) is None


def test_an_unknown_protocol_version_is_refused_by_name(raw: socket.socket) -> None:
    say(raw, pb.Frame(hello=pb.Hello(protocol_version=99)))
    frame = hear(raw)
    assert frame is not None
    assert frame.failure.detail.fields["argument"] == "protocol_version"
    assert hear(raw) is None


@pytest.mark.parametrize("method", ["", "Nope/Nope", "Programs/Load", "Leases/Acquire/"])
def test_an_unknown_method_fails_the_call_only(raw: socket.socket, method: str) -> None:
    say(raw, HELLO)
    assert hear(raw) is not None
    for number in (1, 2):
        say(raw, pb.Frame(id=number, call=pb.Call(method=method)))
        frame = hear(raw)
        assert frame is not None
        assert (frame.id, frame.failure.detail.reason) == (number, "BAD_ARGUMENT")


async def test_descriptors_that_no_call_wants_are_closed(
    raw: socket.socket, daemon: Daemon
) -> None:
    say(raw, HELLO)
    hear(raw)
    say(raw, pb.Frame(id=1, call=pb.Call(method="Devices/List")))
    hear(raw)
    before = descriptors_of(daemon.pid)
    for number in range(2, 50):
        memory = os.memfd_create("surplus")
        say(raw, pb.Frame(id=number, call=pb.Call(method="Devices/List")), memory)
        os.close(memory)
        frame = hear(raw)
        assert frame is not None
        assert frame.WhichOneof("body") == "reply"
    await until(lambda: descriptors_of(daemon.pid) == before)


def test_a_client_that_never_reads_is_dropped(raw: socket.socket, neighbour: Connection) -> None:
    say(raw, HELLO)
    hear(raw)
    with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):  # noqa: PT012  # the loop is the point
        for number in range(1, 1_000_000):
            say(raw, pb.Frame(id=number, call=pb.Call(method="Devices/List")))


def test_a_program_in_a_file_is_refused_before_it_is_looked_at(
    raw: socket.socket, daemon: Daemon
) -> None:
    """The file system of a stranger need not answer, and would stop the broker."""
    say(raw, HELLO)
    hear(raw)
    with open(__file__, "rb") as file:
        load = pb.LoadProgramDescriptorRequest(lease_id="x").SerializeToString()
        say(
            raw,
            pb.Frame(id=1, call=pb.Call(method="Session/LoadProgram", request=load)),
            file.fileno(),
        )
    frame = hear(raw)
    assert frame is not None
    assert frame.failure.detail.reason == "BAD_ARGUMENT"


def test_one_user_cannot_take_all_descriptors(daemon: Daemon, neighbour: Connection) -> None:
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.ExitStack() as stack:
        answers: list[str | None] = []
        while len(answers) < 256 and "failure" not in answers:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(60)
            sock.connect(str(daemon.handoff))
            with contextlib.suppress(BrokenPipeError):
                say(sock, HELLO)
            frame = hear(sock)
            assert frame is not None
            answers.append(frame.WhichOneof("body"))
        assert answers.index("failure") == 256 // 8 - 1
        assert frame is not None
        assert frame.failure.detail.reason == "LIMIT_EXCEEDED"
        assert neighbour.acquire(DeviceSpec.parse("npu:0:0"))
        neighbour.release(neighbour.leases()[-1].id)
