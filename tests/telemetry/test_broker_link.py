"""What a telemetry process asks of the broker, whose side is played here by the test."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from furiosa.common import channel
from furiosa.common.errors import BrokerUnavailable, InternalError
from furiosa.common.failures import failed_to_wire
from furiosa.common.status import to_failed
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.telemetry import broker_link
from furiosa.telemetry.broker_link import BrokerLink


class Broker:
    """Hands out the frames that came; `answer` answers one."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._decoder = channel.Decoder(1 << 20)
        self._frames: list[pb.Frame] = []

    async def next(self) -> pb.Frame:
        loop = asyncio.get_running_loop()
        while not self._frames:
            self._decoder.feed(await loop.sock_recv(self.sock, 65_536))
            self._frames += [pb.Frame.FromString(m.payload) for m in self._decoder.messages()]
        return self._frames.pop(0)

    def answer(self, call: pb.Frame, value: BytesValue | StringValue) -> None:
        self.send(pb.Frame(id=call.id, reply=pb.Reply(response=value.SerializeToString())))

    def send(self, frame: pb.Frame) -> None:
        self.sock.sendall(channel.encode(frame.SerializeToString()))

    @property
    def silent(self) -> bool:
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._frames


@pytest.fixture
async def linked() -> AsyncIterator[tuple[BrokerLink, Broker]]:
    ours, theirs = socket.socketpair()
    link, broker = BrokerLink(ours), Broker(theirs)
    running = asyncio.create_task(link.run())
    assert (await broker.next()).hello.client == "furiosa-telemetry"
    yield link, broker
    theirs.close()
    await running


async def test_many_who_ask_at_once_cost_the_broker_one_answer(
    linked: tuple[BrokerLink, Broker],
) -> None:
    link, broker = linked
    asked = [asyncio.create_task(link.metrics(30)) for _ in range(50)]
    call = await broker.next()
    assert call.call.method == "Telemetry/Metrics"
    broker.answer(call, BytesValue(value=b"[]"))
    assert await asyncio.gather(*asked) == [b"[]"] * 50
    assert await link.metrics(30) == b"[]"  # it is fresh still
    assert broker.silent


async def test_an_answer_that_is_not_fresh_is_asked_for_again(
    linked: tuple[BrokerLink, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_link, "FRESH_SECONDS", 0.0)
    link, broker = linked
    for cause in ("", "it is shutting down"):
        asked = asyncio.create_task(link.unready(30))
        broker.answer(await broker.next(), StringValue(value=cause))
        assert await asked == cause


async def test_a_broker_that_hangs_is_asked_once_and_told_of_in_time(
    linked: tuple[BrokerLink, Broker],
) -> None:
    link, broker = linked
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match=r"no answer within 0\.01 s"):
            await link.unready(0.01)
    broker.answer(await broker.next(), StringValue())  # it comes to itself
    assert await link.unready(30) == ""
    assert broker.silent


async def test_one_who_gives_up_does_not_spoil_it_for_others(
    linked: tuple[BrokerLink, Broker],
) -> None:
    link, broker = linked
    first, second = (asyncio.create_task(link.metrics(30)) for _ in range(2))
    call = await broker.next()
    first.cancel()
    await asyncio.wait((first,))
    broker.answer(call, BytesValue(value=b"x"))
    assert await second == b"x"


async def test_a_failure_is_the_brokers_own(linked: tuple[BrokerLink, Broker]) -> None:
    link, broker = linked
    asked = asyncio.create_task(link.metrics(30))
    call = await broker.next()
    failure = failed_to_wire(to_failed(InternalError("5f3a")))
    broker.send(pb.Frame(id=call.id, failure=failure))
    with pytest.raises(InternalError, match="5f3a"):
        await asked


async def test_when_the_broker_goes_nobody_waits(linked: tuple[BrokerLink, Broker]) -> None:
    link, broker = linked
    asked = asyncio.create_task(link.metrics(30))
    await broker.next()
    broker.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BrokerUnavailable, match="it is gone"):
        await asked
    with pytest.raises(BrokerUnavailable, match="it is gone"):
        await link.unready(30)
