"""The data plane's TCP listener: a session's token counts only together with its owner's proof."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.common.errors import NoSession
from furiosa.common.keys import TlsKeys
from furiosa.common.proof import Proof, Proving
from furiosa.dataplane.lane import Result
from furiosa.dataplane.listeners import TcpListener, tcp_server
from furiosa.proto.broker.v1 import inference_pb2 as pb
from furiosa.proto.broker.v1 import inference_pb2_grpc
from support.certificates import Authority

TOKEN = "5e" * 32
ANN = (("authorization", "Bearer token-of-ann"), ("furiosa-session", TOKEN))


class Ports:
    """Knows one session, and runs everything at once. `asked` has the tokens that were checked."""

    def __init__(self, known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    async def admit(self, token: str) -> None:
        self.asked.append(token)
        if token != self.known:
            raise NoSession("Inference/Run")

    async def get(self, token: str, lease_id: str, program_id: int) -> "Ports":
        assert token == self.known
        return self

    async def run(self, inputs: Any) -> Result:
        return Result([b"y"], 1)


@asynccontextmanager
async def serving(ports: Any, way: Proving, keys: int | None = None) -> AsyncIterator[str]:
    server, port = tcp_server(ports, TcpListener("127.0.0.1:0", way, keys), 1 << 20)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def outcomes(channel: Any, metadata: Any) -> list[Any]:
    """Of Run and RunStream: what came out, or the reason why nothing did."""
    stub = inference_pb2_grpc.InferenceStub(channel)
    # one request and its answers: gRPC's asyncio client knows a refusal that comes before it has written
    # the request, which to a stream of requests is INTERNAL
    streamed = channel.unary_stream(
        "/furiosa.proto.broker.v1.Inference/RunStream",
        pb.RunRequest.SerializeToString,
        pb.RunStreamResponse.FromString,
    )
    found: list[Any] = []
    for call in (
        stub.Run(pb.RunRequest(id=7), metadata=metadata),
        streamed(pb.RunRequest(id=7), metadata=metadata).read(),
    ):
        try:
            answer = await call
            found.append(answer.id if isinstance(answer, pb.RunResponse) else answer.response.id)
        except grpc.aio.AioRpcError as exc:
            trailers = {k: v for k, v in exc.trailing_metadata() or ()}  # noqa: C416  # no dict()
            found.append(trailers.get("furiosa-reason", exc.code()))
    return found


async def test_a_bearer_token_is_needed_beside_the_session_s() -> None:
    ports = Ports(Proof(token="token-of-ann").bind(TOKEN))
    async with (
        serving(ports, Proving.TOKEN) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert await outcomes(channel, ANN) == [7, 7]
        for metadata in (
            (),
            ANN[:1],
            ANN[1:],
            (("authorization", "Bearer token-of-bob"), ANN[1]),
            (ANN[0], ("furiosa-session", ports.known)),
        ):
            assert await outcomes(channel, metadata) == ["NO_SESSION", "NO_SESSION"]


async def test_nothing_of_a_request_is_read_before_its_sender_is_known() -> None:
    ports = Ports("another")
    async with (
        serving(ports, Proving.TOKEN) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for method in ("Run", "RunStream"):
            path = f"/furiosa.proto.broker.v1.Inference/{method}"
            call: Any = channel.stream_stream(path)(metadata=ANN)  # sends nothing
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(ports.asked) == 2


async def test_a_certificate_counts_and_its_keys_may_change(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, ann = authority.server(), authority.client("CN=ann")
    bob = authority.client("CN=bob", "bob")
    (tmp_path / "new").mkdir()
    successor = Authority(tmp_path / "new", "successor")
    issued = successor.server()
    memory = os.memfd_create("keys")
    ca = authority.path.read_bytes()
    TlsKeys(server.certificate.read_bytes(), server.key.read_bytes(), ca).write(memory)
    ports = Ports(Proof(subject="CN=ann").bind(TOKEN))

    async def come(address: str, client: Any, trusted: bytes) -> list[Any]:
        pair = (client.key.read_bytes(), client.certificate.read_bytes()) if client else ()
        credentials = grpc.ssl_channel_credentials(trusted, *pair)
        async with grpc.aio.secure_channel(address, credentials) as channel:
            return await outcomes(channel, ANN[1:])

    try:
        async with serving(ports, Proving.CERTIFICATE, memory) as address:
            assert await come(address, ann, ca) == [7, 7]
            assert await come(address, bob, ca) == ["NO_SESSION", "NO_SESSION"]
            assert await come(address, None, ca) == [grpc.StatusCode.UNAVAILABLE] * 2
            TlsKeys(issued.certificate.read_bytes(), issued.key.read_bytes(), ca).write(memory)
            assert await come(address, ann, successor.path.read_bytes()) == [7, 7]
            assert await come(address, ann, ca) == [grpc.StatusCode.UNAVAILABLE] * 2
    finally:
        os.close(memory)


async def test_an_address_in_use_is_refused_by_name() -> None:
    async with serving(Ports(""), Proving.TOKEN) as address:
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            tcp_server(Ports(""), TcpListener(address, Proving.TOKEN, None), 1)  # type: ignore[arg-type]  # a fake
