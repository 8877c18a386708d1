"""TCP listeners: what may be listened on, and keys that change under a running broker."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.broker.rpc.credentials import Listener, TlsFiles
from furiosa.common.keys import TlsKeys
from furiosa.common.proof import Proof, Proving, proof_of, session_token_of
from furiosa.proto.broker.v1 import devices_pb2, devices_pb2_grpc
from support.certificates import Authority, Issued
from support.listeners import Listening, listening


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Issued:
    return authority.server()


@pytest.fixture
def files(authority: Authority, server: Issued) -> Iterator[TlsFiles]:
    made = TlsFiles(server.certificate, server.key, authority.path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "tls", "ca", "expected"),
    [
        ("0.0.0.0:1", True, True, Listener("0.0.0.0", 1, Proving.CERTIFICATE, True)),
        ("[::]:1/token", True, True, Listener("::", 1, Proving.TOKEN, True)),
        ("example.org:1", True, False, Listener("example.org", 1, Proving.TOKEN, True)),
        ("127.0.0.1:0", False, False, Listener("127.0.0.1", 0, Proving.TOKEN, False)),
        ("[::1]:1/token", False, False, Listener("::1", 1, Proving.TOKEN, False)),
    ],
)
def test_a_listener_says_what_it_asks_of_clients(
    text: str, tls: bool, ca: bool, expected: Listener
) -> None:
    listener = Listener.parse(text, tls=tls, client_ca=ca)
    assert listener == expected
    assert Listener.parse(str(listener), tls=tls, client_ca=ca) == listener


@pytest.mark.parametrize(
    ("text", "tls", "ca", "said"),
    [
        ("0.0.0.0:1", False, False, "without TLS"),
        ("localhost:1", False, False, "without TLS"),  # a name may stand for anything
        ("10.0.0.1:1/token", False, True, "without TLS"),
        ("127.0.0.1:1/certificate", False, True, "asks for client certificates"),
        ("127.0.0.1:1/certificate", True, False, "asks for client certificates"),
        ("127.0.0.1:1/password", True, True, "expected certificate or token"),
        ("127.0.0.1", True, True, "is not host:port"),
        ("127.0.0.1:65536", True, True, "is not host:port"),
        ("unix:/x", True, True, "is not host:port"),
    ],
)
def test_what_would_be_unsafe_or_is_nonsense_is_refused_by_name(
    text: str, tls: bool, ca: bool, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Listener.parse(text, tls=tls, client_ca=ca)
    assert repr(text) in str(caught.value)


def test_clients_of_every_address_use_the_host_they_know() -> None:
    def target(text: str) -> str:
        return Listener.parse(text, tls=True, client_ca=False).target

    assert target("0.0.0.0:5") == target("[::]:5") == ":5"
    assert target("10.0.0.1:5") == "10.0.0.1:5"


async def seen_by(broker: Listening, client: Issued, ca: Path) -> int:
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(broker.address, credentials) as channel:
        answer: Any = await devices_pb2_grpc.DevicesStub(channel).List(
            devices_pb2.ListDevicesRequest()
        )
        return int(answer.revision)


async def test_new_keys_serve_new_connections_and_bad_ones_are_not_taken(
    authority: Authority,
    server: Issued,
    files: TlsFiles,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    client = authority.client()
    (tmp_path / "new").mkdir()
    successor = Authority(tmp_path / "new")
    issued = successor.server()
    async with listening("127.0.0.1:0", files) as broker:
        assert await seen_by(broker, client, authority.path) == 5
        server.certificate.write_bytes(issued.certificate.read_bytes())
        files.check()
        assert "not_reloaded" in caplog.text, "the key belongs to the old certificate"
        assert await seen_by(broker, client, authority.path) == 5
        server.key.write_bytes(issued.key.read_bytes())
        files.check()
        assert "tls.reloaded" in caplog.text
        assert TlsKeys.read(files.memory) == files.current
        assert await seen_by(broker, client, successor.path) == 5
        with pytest.raises(grpc.aio.AioRpcError, match="unable to get local issuer certificate"):
            await seen_by(broker, client, authority.path)
        authority.path.write_bytes(successor.path.read_bytes())
        files.check()
        other = successor.client()
        assert await seen_by(broker, other, successor.path) == 5
        with pytest.raises(grpc.aio.AioRpcError):
            await seen_by(broker, client, successor.path)


def test_files_that_are_no_keys_are_refused_at_the_start(
    authority: Authority, server: Issued, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"no PEM")
    with pytest.raises(ValueError, match=r"not a PEM certificate and its key"):
        TlsFiles(nonsense, server.key, None)
    with pytest.raises(ValueError, match=r"not a PEM certificate and its key"):
        TlsFiles(server.certificate, authority.client().key, None)
    with pytest.raises(ValueError, match=r"nonsense has no PEM certificates"):
        TlsFiles(server.certificate, server.key, nonsense)
    with pytest.raises(FileNotFoundError):
        TlsFiles(tmp_path / "absent", server.key, None)


def test_files_that_vanish_leave_the_old_keys_in_force(
    server: Issued, files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    before = files.current
    server.key.unlink()
    files.check()
    files.check()
    assert files.current is before
    assert caplog.text.count("tls.not_reloaded") == 1


def test_keys_that_are_being_written_are_not_read() -> None:
    memory = os.memfd_create("keys")
    try:
        assert TlsKeys.read(memory) is None
        keys = TlsKeys(b"certificate\xff", b"key", b"")
        keys.write(memory)
        assert TlsKeys.read(memory) == keys
        longer = TlsKeys(b"c" * 5000, b"k", b"a")
        longer.write(memory)
        keys.write(memory)
        assert TlsKeys.read(memory) == keys
        os.pwrite(memory, b"x", 50)
        assert TlsKeys.read(memory) is None
    finally:
        os.close(memory)


def test_a_proof_is_of_the_kind_the_listener_asks_for() -> None:
    context = {"x509_subject": [b"CN=ann,O=x"]}
    bearer = [("authorization", "bearer  abc"), ("x", "y")]
    assert proof_of(Proving.CERTIFICATE, context, bearer) == Proof(subject="CN=ann,O=x")
    assert proof_of(Proving.TOKEN, context, bearer) == Proof(token="abc")
    assert proof_of(Proving.CERTIFICATE, {}, bearer) is None
    assert proof_of(Proving.CERTIFICATE, {"x509_subject": [b""]}, bearer) is None
    assert proof_of(Proving.TOKEN, context, []) is None


def test_a_session_is_known_by_another_name_to_each_proof() -> None:
    token = "ab" * 32
    names = {
        Proof(subject="CN=a").bind(token),
        Proof(subject="CN=b").bind(token),
        Proof(token="CN=a").bind(token),
        Proof(subject="CN=a").bind("cd" * 32),
    }
    assert len(names) == 4
    assert session_token_of([("furiosa-session", token)]) == token
    assert session_token_of([("user-agent", f"furiosa-session/{token} grpc")]) == token
    for name in names:  # nobody can say such a name himself
        assert session_token_of([("furiosa-session", name)]) is None
        assert session_token_of([("user-agent", f"furiosa-session/{name}")]) is None
