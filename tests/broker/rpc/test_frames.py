"""One connection: what a client that breaks the rules, hurries or leaves can do to the broker."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from furiosa.broker.rpc import outbox
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.methods import Call, Method, ServerStream, Unary
from furiosa.common.channel import HEADER, Decoder, encode, receive, send
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.queues import open_descriptors
from support.waiting import until


class Bench:
    """A greeted peer with two methods: one that takes descriptors, one that never answers."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.sock, theirs = socket.socketpair()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        methods: dict[str, Method] = {
            "Test/Take": Unary(pb.OpenQueueRequest, self._wait, takes=1),
            "Test/Wait": Unary(pb.OpenQueueRequest, self._wait),
            "Test/Give": Unary(pb.OpenQueueRequest, self._give, takes=1),
            "Leases/Watch": ServerStream(pb.OpenQueueRequest, self._watch),
            "Devices/Watch": ServerStream(pb.OpenQueueRequest, self._watch),
        }
        self.peer = Peer(theirs, methods, group, lambda _: True, self.closed.set_result)
        self.say(pb.Frame(hello=pb.Hello()))

    def say(self, *said: pb.Frame, descriptors: int = 0) -> None:
        """All frames in one write; each call comes with so many descriptors."""
        memory = [os.memfd_create("test") for _ in range(descriptors)]
        for frame in said:
            own = memory if frame.WhichOneof("body") == "call" else []
            send(self.sock, encode(frame.SerializeToString(), own), own)
        for fd in memory:
            os.close(fd)

    async def _wait(self, _: object, call: Call) -> pb.OpenQueueResponse:
        self.calls.put_nowait(call)
        await asyncio.Event().wait()
        raise AssertionError

    async def _watch(self, _: object, call: Call) -> AsyncIterator[pb.OpenQueueResponse]:
        yield await self._wait(_, call)

    async def _give(self, _: object, call: Call) -> pb.OpenQueueResponse:
        call.attached.append(os.memfd_create("given"))
        return pb.OpenQueueResponse()


@asynccontextmanager
async def a_peer() -> AsyncIterator[Bench]:
    before = open_descriptors()
    async with asyncio.TaskGroup() as group:
        bench = Bench(group)
        try:
            yield bench
        finally:
            bench.peer.close("the test is over")
            bench.sock.close()
    await asyncio.sleep(0)
    assert open_descriptors() == before


def call(number: int, method: str = "Test/Take") -> pb.Frame:
    return pb.Frame(id=number, call=pb.Call(method=method))


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def memfds() -> int:
    return sum("memfd:test" in name for name in open_descriptors())


async def test_a_call_cancelled_before_it_ran_keeps_neither_descriptors_nor_its_number() -> None:
    async with a_peer() as bench:
        for _ in range(5):
            bench.say(call(1), pb.Frame(id=1, cancel=pb.Cancel()), descriptors=1)
        bench.say(call(1))
        await bench.calls.get()
        await until(lambda: memfds() == 0)


async def test_a_connection_that_ends_before_its_calls_ran_keeps_no_descriptors() -> None:
    async with a_peer() as bench:
        bench.say(call(1), pb.Frame(hello=pb.Hello()), descriptors=1)
        assert await bench.closed == "an unexpected hello frame"


async def test_descriptors_that_a_method_does_not_take_are_closed_before_it_runs() -> None:
    async with a_peer() as bench:
        bench.say(call(1), descriptors=3)
        assert len((await bench.calls.get()).received) == 1
        bench.say(call(2, "Test/Wait"), descriptors=3)
        assert (await bench.calls.get()).received == []
        assert memfds() == 1


async def test_descriptors_that_belong_to_no_message_end_the_connection() -> None:
    async with a_peer() as bench:
        memory = os.memfd_create("test")
        send(bench.sock, HEADER.pack(60_000, 1), [memory])
        with pytest.raises(OSError, match="Broken pipe"):  # noqa: PT012  # which write is too late is open
            for _ in range(1000):
                send(bench.sock, b"x", [memory] * 16)
                await asyncio.sleep(0)
        os.close(memory)
        assert "descriptors" in await bench.closed


async def test_a_client_that_takes_no_answers_cannot_have_the_broker_hoard_descriptors() -> None:
    async with a_peer() as bench:
        bench.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        bench.peer._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        with pytest.raises(OSError, match="Broken pipe"):  # noqa: PT012  # which write is too late is open
            for number in range(1, 10_000):
                bench.say(call(number, "Test/Give"))
                await asyncio.sleep(0)
                given = sum("memfd:given" in name for name in open_descriptors())
                assert given <= outbox.MAX_DESCRIPTORS + 1
        assert "never read" in await bench.closed


async def test_what_a_call_took_is_closed_once_and_before_its_answer() -> None:
    defects: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))
    async with a_peer() as bench:
        bench.say(call(1, "Test/Give"), descriptors=1)
        await until(lambda: readable(bench.sock))
        assert memfds() == 0
        _, (given,) = receive(bench.sock)
        os.close(given)
    assert defects == []


async def test_watches_leave_room_for_other_calls() -> None:
    async with a_peer() as bench:
        for number in range(1, 17):
            bench.say(call(number, ("Leases/Watch", "Devices/Watch")[number % 2]))
            await bench.calls.get()
        bench.say(call(17, "Leases/Watch"))
        await until(lambda: readable(bench.sock))
        decoder = Decoder(1 << 20)
        decoder.feed(*receive(bench.sock))
        (message,) = decoder.messages()
        refused = pb.Frame.FromString(message.payload)
        assert refused.id == 17
        assert refused.failure.message == "watches at once of one caller is 17, the limit is 16"
        bench.say(call(18), pb.Frame(id=1, cancel=pb.Cancel()))
        assert (await bench.calls.get()).method == "Test/Take"
        bench.say(call(19, "Leases/Watch"))
        assert (await bench.calls.get()).id == 19
