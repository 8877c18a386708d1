"""A client that reaches the broker and its data plane by TCP, proving itself with a certificate."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import furiosa.client
from furiosa.client import UnixAddress
from furiosa.client.sync import Connection
from furiosa.common.errors import (
    BadArgument,
    BrokerUnavailable,
    DeviceBusy,
    InvalidProgram,
    UnknownProgram,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseEndedNotice, LeaseNotice, Origin, WorkerDiedNotice
from furiosa.enf import read
from furiosa.proto.broker.v1 import (
    inference_pb2,
    inference_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
)
from furiosa.queuepair import Geometry
from furiosa.vnpu.interpreter import Interpreter
from support import digits
from support.certificates import Authority, Issued
from support.clients import HOLD, Client
from support.daemon import Daemon
from support.remote import RemoteDaemon, own_host

IMAGE = digits.held_out_images()[0]
FURIOSACTL = "import sys; from furiosa.cli.furiosactl import main; sys.exit(main())"
CORE = DeviceSpec.parse("npu:0:0")


@pytest.fixture(scope="module")
def shared() -> Iterator[RemoteDaemon]:
    daemon = RemoteDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(shared: RemoteDaemon, monkeypatch: pytest.MonkeyPatch) -> RemoteDaemon:
    come(monkeypatch, shared, shared.authority.client())
    return shared


def come(
    monkeypatch: pytest.MonkeyPatch,
    daemon: RemoteDaemon,
    client: Issued | None,
    ca: Path | None = None,
) -> None:
    for name, value in daemon.use(client, ca).items():
        if name.startswith("FURIOSA_"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def connection(daemon: RemoteDaemon) -> Iterator[Connection]:
    with Connection.open(client="test/1.0") as made:
        yield made


def code(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()


def wait_for_the_end(connection: Connection, lease: str) -> None:
    """Raises: BrokerUnavailable."""
    while True:
        connection.wait(())
        connection.take_notices(lease)


def data_channel(
    connection: Connection, daemon: RemoteDaemon, client: Issued, token: str
) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        daemon.authority.path.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
    )
    agent = ("grpc.primary_user_agent", f"furiosa-session/{token}")
    return grpc.secure_channel(connection.data_target, credentials, [agent])


def test_from_a_lease_to_an_inference_by_tcp_alone(
    daemon: RemoteDaemon, connection: Connection
) -> None:
    assert connection.origin is Origin.EMULATED
    assert connection.grpc_target == daemon.address
    lease = connection.acquire(CORE, wait_limit=60.0)
    assert (lease.owner.pid, lease.owner.subject) == (0, "CN=client,O=tests")
    assert lease.owner.command_line == "test/1.0"
    assert lease.owner.remote.startswith("127.")
    program = connection.load_program(lease.id, digits.program())
    assert [spec.name for spec in program.inputs] == ["image"]
    with data_channel(
        connection, daemon, daemon.authority.client(), connection.session_token
    ) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        request = inference_pb2.RunRequest(
            lease_id=lease.id, program_id=program.id, inputs=[IMAGE.tobytes()], id=7
        )
        answer = stub.Run(request, timeout=60)
        (expected,) = Interpreter(read(digits.program())).run([IMAGE])
        np.testing.assert_array_equal(
            np.frombuffer(answer.outputs[0], np.float32).reshape(1, 10), expected
        )
        (streamed,) = stub.RunStream(iter([request]), timeout=60)
        assert streamed.response.outputs == answer.outputs
    connection.unload_program(lease.id, program.id)
    with pytest.raises(UnknownProgram):
        connection.unload_program(lease.id, program.id)
    connection.release(lease.id)
    assert not [held for held in connection.leases() if held.owner.subject]


def test_the_data_plane_wants_the_same_proof_as_the_session(
    daemon: RemoteDaemon, connection: Connection
) -> None:
    lease = connection.acquire(CORE, wait_limit=60.0)
    program = connection.load_program(lease.id, digits.program())
    request = inference_pb2.RunRequest(
        lease_id=lease.id, program_id=program.id, inputs=[IMAGE.tobytes()]
    )
    other = daemon.authority.client("CN=other", "other")
    ours = daemon.authority.client()
    for client, token in (
        (other, connection.session_token),
        (ours, "0" * 64),
        (ours, "not hex"),
    ):
        with data_channel(connection, daemon, client, token) as channel:
            stub = inference_pb2_grpc.InferenceStub(channel)
            with pytest.raises(grpc.RpcError) as unary:
                stub.Run(request, timeout=60)
            with pytest.raises(grpc.RpcError) as stream:
                next(stub.RunStream(iter([request]), timeout=60))
            assert code(unary.value) is code(stream.value) is grpc.StatusCode.UNAUTHENTICATED


def test_what_the_broker_refuses_has_its_own_error(
    daemon: RemoteDaemon, connection: Connection
) -> None:
    lease = connection.acquire(CORE, wait_limit=60.0)
    with Connection.open(client="second") as second, pytest.raises(DeviceBusy) as busy:
        second.acquire(DeviceSpec.parse("npu:0:0-1"))
    assert busy.value.holder_device == "npu0pe0"
    with pytest.raises(InvalidProgram):
        connection.load_program(lease.id, b"nonsense")
    with pytest.raises(BadArgument, match=r"Session/OpenQueue .* its own machine"):
        connection.open_queue(lease.id, DeviceFile.parse("npu0pe0"), Geometry(4, 4096))


def test_a_lease_ends_with_its_remote_client(daemon: RemoteDaemon, connection: Connection) -> None:
    with Client(HOLD.format(megabytes=1, spec="npu:0:0"), daemon.environ) as client:
        lease = client.line()
        assert [held.id for held in connection.leases()] == [lease]
        client.kill()
        taken = connection.acquire(CORE, wait_limit=60.0)
    assert taken.owner.subject == "CN=client,O=tests"


def test_notices_come_by_tcp(daemon: RemoteDaemon, connection: Connection) -> None:
    lease = connection.acquire(CORE, wait_limit=60.0)
    connection.load_program(lease.id, digits.program())
    for pid in daemon.workers():
        os.kill(pid, signal.SIGKILL)
    connection.wait((), lease.id)
    (notice,) = connection.take_notices(lease.id)
    assert isinstance(notice, WorkerDiedNotice)
    assert str(notice.device_file) == "npu0pe0"


async def test_the_asynchronous_client_does_the_same(daemon: RemoteDaemon) -> None:
    async with await furiosa.client.Connection.open(client="test") as connection:
        lease = await connection.acquire(CORE, wait_limit=60.0)
        program = await connection.load_program(lease.id, digits.program())
        assert program.lease_id == lease.id
        await connection.release(lease.id)


@pytest.mark.parametrize("command", ["list", "ps"])
def test_furiosactl_works_against_a_remote_broker(
    daemon: RemoteDaemon, connection: Connection, command: str
) -> None:
    connection.acquire(CORE, wait_limit=60.0)
    done = subprocess.run(
        [sys.executable, "-c", FURIOSACTL, command],
        env=daemon.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "npu0" in done.stdout


def test_who_does_not_prove_himself_is_refused_by_name(
    daemon: RemoteDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "another authority")
    expired = daemon.authority.client(file="expired", expired=True)
    ours = daemon.authority.client()
    cases = (
        (None, None, r"FURIOSA_BROKER_CERT is not set"),
        (stranger.client(), None, r"may not accept the certificate in FURIOSA_BROKER_CERT"),
        (expired, None, r"may not accept the certificate in FURIOSA_BROKER_CERT"),
        (ours, stranger.path, r"the authorities in FURIOSA_BROKER_CA did not sign it"),
    )
    for client, ca, said in cases:
        come(monkeypatch, daemon, client, ca)
        with pytest.raises(BrokerUnavailable, match=said) as caught:
            Connection.open(client="test")
        assert caught.value.address == daemon.address


def test_a_local_session_s_token_is_worth_nothing_by_tcp(
    daemon: RemoteDaemon, connection: Connection
) -> None:
    """And a remote one's nothing on the Unix socket."""
    client = daemon.authority.client()
    credentials = grpc.ssl_channel_credentials(
        daemon.authority.path.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
    )
    with Connection.open(UnixAddress(str(daemon.socket)), client="local") as local:
        by_tcp = grpc.secure_channel(
            daemon.address,
            credentials,
            [("grpc.primary_user_agent", f"furiosa-session/{local.session_token}")],
        )
        by_unix = grpc.insecure_channel(
            f"unix:{daemon.socket}",
            [("grpc.primary_user_agent", f"furiosa-session/{connection.session_token}")],
        )
        for channel in (by_tcp, by_unix):
            with channel, pytest.raises(grpc.RpcError) as caught:
                leases_pb2_grpc.LeasesStub(channel).Acquire(
                    leases_pb2.AcquireRequest(device_spec="npu:0:0"), timeout=60
                )
            assert isinstance(caught.value, grpc.Call)
            assert ("furiosa-reason", "NO_SESSION") in (caught.value.trailing_metadata() or ())


def test_certificates_are_replaced_while_the_broker_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon = RemoteDaemon()
    daemon.start()
    try:
        successor = Authority(tmp_path, "successor")
        come(monkeypatch, daemon, daemon.authority.client())
        with Connection.open(client="before") as before:
            lease = before.acquire(CORE)
            issued = successor.server("new", daemon.host)
            daemon.server.key.write_bytes(issued.key.read_bytes())
            daemon.server.certificate.write_bytes(issued.certificate.read_bytes())
            come(monkeypatch, daemon, daemon.authority.client(), successor.path)
            daemon.logged("tls.reloaded")
            with Connection.open(client="after") as after:
                assert [held.id for held in after.leases()] == [lease.id]
            assert [held.id for held in before.leases()] == [lease.id]
    finally:
        daemon.stop()


def test_a_token_lets_its_tenant_in_until_it_is_revoked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = own_host()
    address, token = f"{host}:5001", tmp_path / "token"
    token.write_text("a token of 256 bits".replace(" ", "-"))
    digest = hashlib.sha256(token.read_bytes()).hexdigest()
    tenants = tmp_path / "tenants.toml"
    ci = f'[[tenant]]\nname = "ci"\nmatch = [{{ token-sha256 = "{digest}" }}]\n'
    ci += '[unmatched]\npolicy = "refuse"\n'
    tenants.write_text(ci)
    # loopback without TLS: a token is needed all the same
    daemon = Daemon(1, "--listen", address, "--tenants", str(tenants))
    daemon.start()
    try:
        for name in ("CA", "CERT", "KEY"):
            monkeypatch.delenv(f"FURIOSA_BROKER_{name}", raising=False)
        monkeypatch.setenv("FURIOSA_BROKER", address)
        with pytest.raises(BrokerUnavailable, match="FURIOSA_BROKER_TOKEN_FILE is not set"):
            Connection.open(client="test")
        monkeypatch.setenv("FURIOSA_BROKER_TOKEN_FILE", str(token))
        connection = Connection.open(client="test")
        lease = connection.acquire(CORE, wait_limit=60.0)
        assert (lease.owner.subject, lease.tenant) == ("ci", "ci")
        tenants.write_text(ci.replace(digest, "0" * 64))
        daemon.signal(signal.SIGHUP)
        with pytest.raises(BrokerUnavailable, match="unknown or was revoked"):
            wait_for_the_end(connection, lease.id)
        with pytest.raises(BrokerUnavailable, match="unknown or was revoked"):
            Connection.open(client="test")
        connection.close()
    finally:
        daemon.stop()


def test_the_end_of_the_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = RemoteDaemon()
    daemon.start()
    try:
        come(monkeypatch, daemon, daemon.authority.client())
        with Connection.open(client="test") as connection:
            lease = connection.acquire(CORE, wait_limit=60.0)
            daemon.signal(signal.SIGTERM)
            notices: list[LeaseNotice] = []
            while not any(isinstance(notice, LeaseEndedNotice) for notice in notices):
                connection.wait((), lease.id)
                notices += connection.take_notices(lease.id)
            daemon.wait()
            with pytest.raises(BrokerUnavailable):
                connection.devices()
    finally:
        daemon.stop()
