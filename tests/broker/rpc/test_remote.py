"""Sessions by TCP: who gets one, what it is worth to others, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from furiosa.broker.rpc import remote
from furiosa.broker.rpc.remote import RemoteOwner
from furiosa.broker.sessions import Session
from furiosa.common.views import LeaseEndedNotice
from furiosa.proto.broker.v1 import (
    devices_pb2,
    devices_pb2_grpc,
    handoff_pb2,
    leases_pb2,
    leases_pb2_grpc,
    sessions_pb2_grpc,
)
from support.listeners import Listening, listening, reason_of
from support.waiting import until

ANN = (("authorization", "Bearer token-of-ann"),)
BOB = (("authorization", "Bearer token-of-bob"),)
HELLO = handoff_pb2.Hello(protocol_version=1, client="test\x1b/1")


@pytest.fixture
async def broker() -> AsyncIterator[Listening]:
    async with listening() as made:
        made.backend.tokens |= {"token-of-ann": "ann", "token-of-bob": "bob"}
        yield made


@pytest.fixture
async def channel(broker: Listening) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(broker.address) as made:
        yield made


@asynccontextmanager
async def attached(
    channel: Any, proof: Any = ANN
) -> AsyncIterator[tuple[Any, handoff_pb2.Welcome]]:
    stream = sessions_pb2_grpc.SessionsStub(channel).Attach(HELLO, metadata=proof)
    try:
        yield stream, (await stream.read()).welcome
    finally:
        stream.cancel()


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)


NOT_AUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "NOT_AUTHENTICATED")
NO_SESSION = (grpc.StatusCode.UNAUTHENTICATED, "NO_SESSION")


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer token-of-eve"),),
        (("authorization", "Basic token-of-ann"),),
        (("authorization", "token-of-ann"),),
        (*ANN, *BOB),
    ],
)
async def test_a_stranger_gets_nothing_at_all(
    broker: Listening, channel: Any, metadata: Any
) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    calls: tuple[Callable[[], Any], ...] = (
        lambda: devices_pb2_grpc.DevicesStub(channel).List(
            devices_pb2.ListDevicesRequest(), metadata=metadata
        ),
        lambda: sessions_pb2_grpc.SessionsStub(channel).Attach(HELLO, metadata=metadata).read(),
        lambda: health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), metadata=metadata
        ),
        # asks nothing: a refusal that comes before gRPC's asyncio client has written is INTERNAL to it
        lambda: reflection(metadata=metadata).read(),
        lambda: channel.unary_unary("/no.such/Method")(b"", metadata=metadata),
    )
    for call in calls:
        assert await refused(call()) == NOT_AUTHENTICATED
    assert not broker.backend.calls
    assert not broker.backend.opened


async def test_who_proves_himself_may_look_without_a_session(
    broker: Listening, channel: Any
) -> None:
    answer = await devices_pb2_grpc.DevicesStub(channel).List(
        devices_pb2.ListDevicesRequest(), metadata=ANN
    )
    assert answer.revision == 5
    assert broker.backend.calls == [("Devices/List", None)]
    request = leases_pb2.ReleaseRequest(lease_id="x")
    release = leases_pb2_grpc.LeasesStub(channel).Release(request, metadata=ANN)
    assert await refused(release) == NO_SESSION


async def test_a_session_is_the_stream_and_says_who_is_behind_it(
    broker: Listening, channel: Any
) -> None:
    async with attached(channel) as (_, welcome):
        owner = broker.backend.session.owner
        assert isinstance(owner, RemoteOwner)
        assert owner.view.subject == "ann"
        assert owner.view.remote.startswith("127.0.0.1:")
        assert owner.view.command_line == "test?/1"
        assert (owner.pid, owner.key < 0) == (0, True)
        assert owner.uid != 0, "the number of a user who may everything"
        assert welcome.data_target == ":7"
        session = broker.backend.session
    await until(lambda: bool(broker.backend.ended))
    assert broker.backend.ended[0][0] is session


async def test_a_session_token_works_with_the_same_proof_only(
    broker: Listening, channel: Any
) -> None:
    leases = leases_pb2_grpc.LeasesStub(channel)
    request = leases_pb2.ReleaseRequest(lease_id="x")
    async with attached(channel) as (_, welcome):
        token = ("furiosa-session", welcome.session_token)
        await leases.Release(request, metadata=(*ANN, token))
        assert broker.backend.calls == [("Leases/Release x", broker.backend.session)]
        assert await refused(leases.Release(request, metadata=(*BOB, token))) == NO_SESSION
        assert await refused(leases.Release(request, metadata=(token,))) == NOT_AUTHENTICATED
        bound = ("furiosa-session", broker.backend.session.token)
        assert await refused(leases.Release(request, metadata=(*ANN, bound))) == NO_SESSION
        agent = [("grpc.primary_user_agent", f"furiosa-session/{welcome.session_token}")]
        async with grpc.aio.insecure_channel(broker.address, options=agent) as other:
            await leases_pb2_grpc.LeasesStub(other).Release(request, metadata=ANN)
    await until(lambda: bool(broker.backend.ended))
    assert await refused(leases.Release(request, metadata=(*ANN, token))) == NO_SESSION


async def test_notices_come_in_order_and_who_never_reads_loses_the_session(
    broker: Listening, channel: Any
) -> None:
    async with attached(channel) as (stream, _):
        session = broker.backend.session
        for number in range(3):
            session.notify(LeaseEndedNotice("a1", str(number)))
        causes = [(await stream.read()).notice.lease_ended.cause for _ in range(3)]
        assert causes == ["0", "1", "2"]
        big = "x" * 1_000_000
        count = 0
        while not broker.backend.ended:
            count += 1
            assert count < 2000, "a client that does not read holds the broker up"
            session.notify(LeaseEndedNotice("a1", big))
            await asyncio.sleep(0)
        assert broker.backend.ended == [(session, f"{remote.MAX_NOTICES} notices were never read")]


async def test_a_revoked_token_ends_its_sessions_and_no_others(
    broker: Listening, channel: Any
) -> None:
    async with attached(channel, ANN) as (stream, _), attached(channel, BOB) as (other, _):
        await until(lambda: len(broker.backend.opened) == 2)
        del broker.backend.tokens["token-of-ann"]
        broker.remote.recheck()
        assert (await refused(stream.read()))[0] is grpc.StatusCode.ABORTED
        assert "was revoked" in await stream.details()
        (left,) = broker.backend.opened.values()
        assert left.owner.view.subject == "bob"
        left.notify(LeaseEndedNotice("a1", "over"))
        assert (await other.read()).notice.lease_ended.cause == "over"


async def test_a_session_that_ends_while_its_welcome_is_on_its_way_ends_for_its_client_too(
    broker: Listening, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    welcome = broker.remote._welcome

    def revoked(session: Session) -> handoff_pb2.Welcome:
        del broker.backend.tokens["token-of-ann"]
        asyncio.get_running_loop().call_soon(broker.remote.recheck)  # when the stream first waits
        return welcome(session)

    monkeypatch.setattr(broker.remote, "_welcome", revoked)
    stream = sessions_pb2_grpc.SessionsStub(channel).Attach(HELLO, metadata=ANN)
    with pytest.raises(grpc.aio.AioRpcError, match="was revoked"):  # noqa: PT012  # after the welcome
        while await stream.read() is not grpc.aio.EOF:
            pass
    assert not broker.backend.opened


async def test_sessions_of_one_and_of_all_are_bounded(
    broker: Listening, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_STREAMS_OF_ONE", 1)
    monkeypatch.setattr(remote, "MAX_STREAMS", 2)
    exceeded = (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    attach = sessions_pb2_grpc.SessionsStub(channel).Attach
    async with attached(channel, ANN):
        assert await refused(attach(HELLO, metadata=ANN).read()) == exceeded
        async with attached(channel, BOB):
            broker.backend.tokens["token-of-cid"] = "cid"
            cid = (("authorization", "Bearer token-of-cid"),)
            assert await refused(attach(HELLO, metadata=cid).read()) == exceeded
    await until(lambda: not broker.backend.opened)
    async with attached(channel, ANN):
        pass


async def test_another_version_of_the_protocol_is_refused(broker: Listening, channel: Any) -> None:
    hello = handoff_pb2.Hello(protocol_version=2)
    call = sessions_pb2_grpc.SessionsStub(channel).Attach(hello, metadata=ANN).read()
    assert await refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_ARGUMENT")


async def test_a_call_is_withdrawn_by_half_closing_and_its_answer_is_not_lost(
    broker: Listening, channel: Any
) -> None:
    withdrawn = asyncio.Event()
    go_on = asyncio.Event()

    async def acquire(request: leases_pb2.AcquireRequest, call: Any) -> None:
        if request.device_spec == "at once":
            return
        try:
            await go_on.wait()
        finally:
            withdrawn.set()

    broker.backend.acquire = acquire
    async with attached(channel) as (_, welcome):
        metadata = (
            *ANN,
            ("furiosa-session", welcome.session_token),
            ("furiosa-withdraw", "half-close"),
        )
        method = channel.stream_unary(
            "/furiosa.proto.broker.v1.Leases/Acquire",
            leases_pb2.AcquireRequest.SerializeToString,
            leases_pb2.AcquireResponse.FromString,
        )
        call = method(metadata=metadata)
        await call.write(leases_pb2.AcquireRequest(device_spec="wait"))
        await until(lambda: bool(broker.backend.calls))
        await call.done_writing()
        assert (await refused(call))[0] is grpc.StatusCode.ABORTED
        assert withdrawn.is_set()
        call = method(metadata=metadata)
        await call.write(leases_pb2.AcquireRequest(device_spec="at once"))
        assert (await call).lease.id == "a1"
