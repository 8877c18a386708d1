"""Brokers on other machines: who we are to them, and a session that runs over gRPC underneath."""

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.client import Connection, TcpAddress
from furiosa.client.remote import connect
from furiosa.client.remote.credentials import Credentials
from furiosa.client.remote.failures import failed_of
from furiosa.common.channel import Decoder, encode, receive
from furiosa.common.errors import BadArgument, BrokerUnavailable
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseEndedNotice
from furiosa.proto.broker.v1 import devices_pb2
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.leaks import nothing_left_open
from support.listeners import Listening, listening
from support.waiting import until

LOCAL = TcpAddress("127.0.0.1", 5001)
FAR = TcpAddress("broker.example.org", 5001)
CORE = DeviceSpec.parse("npu:0:0")


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    with nothing_left_open():
        yield


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "token"
    path.write_text("token-of-ann\n")
    for name in ("FURIOSA_BROKER_CA", "FURIOSA_BROKER_CERT", "FURIOSA_BROKER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FURIOSA_BROKER_TOKEN_FILE", str(path))
    return path


@pytest.fixture
async def broker(token_file: Path) -> AsyncIterator[Listening]:
    async with listening() as made:
        made.backend.tokens["token-of-ann"] = "ann"
        yield made


@pytest.fixture
def address(broker: Listening) -> TcpAddress:
    host, _, port = broker.address.rpartition(":")
    return TcpAddress(host, int(port))


@pytest.fixture
async def connection(address: TcpAddress) -> AsyncIterator[Connection]:
    async with await Connection.open(address, client="test") as made:
        yield made


def test_tls_unless_the_broker_is_on_this_machine_and_no_ca_is_given(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    ca.write_bytes(b"pem")
    given = {"FURIOSA_BROKER_CA": str(ca)}
    assert Credentials.load(FAR, {}).tls
    assert Credentials.load(LOCAL, given) == Credentials(tls=True, ca=b"pem")
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert not Credentials.load(TcpAddress(host, 1), {}).tls
    for host in ("10.0.0.1", "localhost.example.org", "0.0.0.0"):
        assert Credentials.load(TcpAddress(host, 1), {}).tls


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    file = str(tmp_path / "pem")
    Path(file).write_bytes(b"pem")
    with pytest.raises(BadArgument, match="FURIOSA_BROKER_KEY is not set"):
        Credentials.load(FAR, {"FURIOSA_BROKER_CERT": file})
    with pytest.raises(BadArgument, match="FURIOSA_BROKER_CERT is not set"):
        Credentials.load(FAR, {"FURIOSA_BROKER_KEY": file})


@pytest.mark.parametrize("content", [b"two words", b"t\xc3\xb6ken", b"\0", b" \n"])
def test_a_token_is_one_printable_word(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(BadArgument, match="FURIOSA_BROKER_TOKEN_FILE"):
        Credentials.load(FAR, {"FURIOSA_BROKER_TOKEN_FILE": str(path)})


def test_files_that_cannot_be_used_are_named_with_their_variable(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "empty", "pipe", "."):
        with pytest.raises(BadArgument, match=f"FURIOSA_BROKER_CA is .*{name}"):
            Credentials.load(FAR, {"FURIOSA_BROKER_CA": str(tmp_path / name)})


def test_no_secret_is_ever_shown() -> None:
    shown = repr(Credentials(True, b"ca", b"cert", b"secret key", "secret token"))
    assert "secret" not in shown


async def test_a_session_runs_over_tcp(broker: Listening, connection: Connection) -> None:
    assert connection.grpc_target == broker.address
    assert connection.data_target == "127.0.0.1:7"
    assert await connection.devices() == ()
    assert broker.backend.calls == [("Devices/List", broker.backend.session)]
    await connection.release("a1")
    assert broker.backend.calls[-1] == ("Leases/Release a1", broker.backend.session)


async def test_a_program_travels_in_pieces(broker: Listening, connection: Connection) -> None:
    program = await connection.load_program("a1", bytes(3_000_001))
    assert program.enf_bytes == 3_000_001
    assert broker.backend.calls == [("Programs/Load 3000001", broker.backend.session)]


async def test_notices_wake_who_waits(broker: Listening, connection: Connection) -> None:
    waiting = asyncio.create_task(connection.wait((), "a1"))
    broker.backend.session.notify(LeaseEndedNotice("a1", "over"))
    await waiting
    assert connection.take_notices("a1") == [LeaseEndedNotice("a1", "over")]


async def test_closing_ends_the_session_at_the_broker(
    broker: Listening, address: TcpAddress
) -> None:
    connection = await Connection.open(address, client="test")
    session = broker.backend.session
    await connection.close()
    await until(lambda: [ended for ended, _ in broker.backend.ended] == [session])


async def test_why_the_broker_ended_it_is_told(broker: Listening, connection: Connection) -> None:
    broker.backend.tokens.clear()
    broker.remote.recheck()
    with pytest.raises(BrokerUnavailable, match="was revoked") as caught:
        await connection.wait(())
    assert caught.value.address == broker.address
    with pytest.raises(BrokerUnavailable, match="was revoked"):
        await connection.devices()


async def test_a_cancelled_acquire_is_withdrawn_at_once(
    broker: Listening, connection: Connection
) -> None:
    ended = asyncio.Event()

    async def acquire(request: Any, call: Any) -> None:
        assert call.id > 0, "notices about the queue could not name it"
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    broker.backend.acquire = acquire
    waiting = asyncio.create_task(connection.acquire(CORE, wait_limit=3600))
    await until(lambda: bool(broker.backend.calls))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
    assert not [name for name, _ in broker.backend.calls if name.startswith("Leases/Release")]


async def test_what_was_granted_to_a_cancelled_acquire_is_given_back(
    broker: Listening, connection: Connection
) -> None:
    async def acquire(request: Any, call: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # granted in that very moment
            await asyncio.Event().wait()

    broker.backend.acquire = acquire
    waiting = asyncio.create_task(connection.acquire(CORE, wait_limit=3600))
    await until(lambda: bool(broker.backend.calls))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert broker.backend.calls[-1][0] == "Leases/Release a1"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("token-of-eve", "does not let us in: this bearer token is unknown or was revoked"),
        ("", r"needs metadata .* \(FURIOSA_BROKER_TOKEN_FILE is not set\)"),
    ],
)
async def test_who_is_not_let_in_learns_why(
    broker: Listening,
    address: TcpAddress,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    said: str,
) -> None:
    token_file.write_text(token)
    if not token:
        monkeypatch.delenv("FURIOSA_BROKER_TOKEN_FILE")
    with pytest.raises(BrokerUnavailable, match=said) as caught:
        await Connection.open(address, client="test")
    assert caught.value.address == broker.address


async def test_nobody_at_the_address_is_told_at_once(token_file: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = TcpAddress("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(BrokerUnavailable, match="Connection refused"):
            await Connection.open(address, client="test")


async def test_bad_credentials_are_told_by_the_variable(
    address: TcpAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FURIOSA_BROKER_CERT", "/nonexistent")
    with pytest.raises(BadArgument, match="FURIOSA_BROKER_CERT"):
        await Connection.open(address, client="test")


class _Failed:
    """As much of a grpc.RpcError as is looked at."""

    def __init__(self, code: int, text: str, *trailers: tuple[str, Any]) -> None:
        self._code, self._text, self._trailers = code, text, trailers

    def code(self) -> Any:
        return type("Code", (), {"value": (self._code, "")})

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> Any:
        return self._trailers


@pytest.mark.parametrize(
    ("credentials", "text", "said"),
    [
        (
            Credentials(True, b"ca"),
            "x CERTIFICATE_VERIFY_FAILED y",
            "authorities in FURIOSA_BROKER_CA",
        ),
        (Credentials(True), "x CERTIFICATE_VERIFY_FAILED y", "a known authority"),
        (Credentials(True), "Peer name b is not in peer certificate", "for another host"),
        (Credentials(True), "WRONG_VERSION_NUMBER", "does not speak TLS"),
        (Credentials(True), "Socket closed", "FURIOSA_BROKER_CERT is not set"),
        (Credentials(True, b"", b"c", b"k"), "Socket closed", "may not accept the certificate"),
        (Credentials(False), "Socket closed", "Socket closed"),
    ],
)
def test_what_fails_in_grpc_is_put_into_words(
    credentials: Credentials, text: str, said: str
) -> None:
    failed = failed_of(_Failed(14, text), "host:1", credentials)
    assert failed.reason == "BROKER_UNAVAILABLE"
    assert failed.fields["address"] == "host:1"
    assert said in failed.fields["cause"]
    assert text in failed.fields["cause"]


def test_a_broken_detail_of_an_error_breaks_nothing() -> None:
    error = _Failed(8, "no", ("furiosa-reason", "DEVICE_BUSY"), ("furiosa-error-bin", b"\xff"))
    assert failed_of(error, "host:1", Credentials(True)).reason == "BROKER_UNAVAILABLE"


class _Frames:
    """A session's end of the bridge, frame by frame. Its calls block: use threads."""

    def __init__(self, address: TcpAddress) -> None:
        self.sock = connect(address)
        self._decoder = Decoder(1 << 20)
        self._messages: Iterator[Any] = iter(())

    def send(self, frame: pb.Frame) -> None:
        self.sock.sendall(encode(frame.SerializeToString()))

    def call(self, number: int, method: str, request: Any) -> None:
        body = pb.Call(method=method, request=request.SerializeToString())
        self.send(pb.Frame(id=number, call=body))

    def receive(self) -> tuple[pb.Frame, tuple[int, ...]]:
        while (message := next(self._messages, None)) is None:
            data, descriptors = receive(self.sock)
            assert data
            self._decoder.feed(data, descriptors)
            self._messages = iter(list(self._decoder.messages()))
        return pb.Frame.FromString(message.payload), message.descriptors


async def test_frames_are_answered_as_the_handoff_socket_would(
    broker: Listening, address: TcpAddress
) -> None:
    def talk() -> None:
        frames = _Frames(address)
        frames.send(pb.Frame(hello=pb.Hello(protocol_version=1, client="frames")))
        welcome, (memory,) = frames.receive()
        assert welcome.welcome.session_token
        assert os.fstat(memory).st_size == 0, "there is no death notice by TCP"
        os.close(memory)
        frames.call(1, "Devices/Watch", devices_pb2.WatchDevicesRequest())
        answers = [frames.receive()[0] for _ in range(3)]
        assert [frame.WhichOneof("body") for frame in answers] == ["reply", "reply", "end"]
        revisions = [
            devices_pb2.WatchDevicesResponse.FromString(frame.reply.response).revision
            for frame in answers[:2]
        ]
        assert revisions == [1, 2]
        for number, method in ((2, "Session/OpenQueue"), (3, "Sessions/Attach"), (4, "No/Such")):
            frames.call(number, method, pb.OpenQueueRequest())
            failure, _ = frames.receive()
            assert (failure.id, failure.failure.detail.reason) == (number, "BAD_ARGUMENT")
        frames.sock.close()

    await asyncio.to_thread(talk)
    await until(lambda: bool(broker.backend.ended))
    await until(lambda: not [t for t in threading.enumerate() if t.name.startswith("broker ")])


async def test_a_welcome_of_no_sense_is_no_broker(
    broker: Listening, address: TcpAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker.remote, "_welcome", lambda session: pb.Welcome(data_target=":x"))

    with pytest.raises(BrokerUnavailable, match="it sent no sound message"):
        await Connection.open(address, client="test")


FORKING = """
import os, sys
from furiosa.client.sync import Connection
connection = Connection.open(client="test")
child = os.fork()
if child == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
connection.devices()
"""


async def test_a_forked_child_that_ends_leaves_the_session_alone(
    broker: Listening, token_file: Path
) -> None:
    environ = {
        **os.environ,
        "FURIOSA_BROKER": broker.address,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", FORKING, env=environ)
    assert await client.wait() == 0
    ((_, session),) = broker.backend.calls
    assert session is not None
    await until(lambda: [ended for ended, _ in broker.backend.ended] == [session])


async def test_a_broker_that_vanishes_ends_the_session(token_file: Path) -> None:
    async with listening() as broker:
        broker.backend.tokens["token-of-ann"] = "ann"
        host, _, port = broker.address.rpartition(":")
        connection = await Connection.open(TcpAddress(host, int(port)), client="test")
    with pytest.raises(BrokerUnavailable, match="the broker stopped"):
        await connection.wait(())
    await connection.close()
