"""One connection handed from one broker process to the next: what was under way on it goes on."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from furiosa.broker.rpc import frames
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.left import Left
from furiosa.broker.rpc.methods import Call, Method, Prompt, ServerStream, Unary
from furiosa.common.channel import Decoder, encode, receive, send
from furiosa.common.errors import BrokerDraining
from furiosa.common.failures import error_from_wire
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.queues import open_descriptors
from support.waiting import readable, until

if TYPE_CHECKING:
    from furiosa.broker.sessions import Session


class Broker:
    """Methods that say when they are called, and answer when they are told."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.calls: list[Call] = []
        self.read: list[bytes] = []  # what came in the descriptors of loads
        self.answers: dict[int, asyncio.Future[pb.OpenQueueResponse]] = {}
        self.methods: dict[str, Method] = {
            "Leases/Acquire": Prompt(pb.OpenQueueRequest, self._wait),
            "Leases/Watch": ServerStream(pb.OpenQueueRequest, self._watch),
            "Leases/Release": Unary(pb.OpenQueueRequest, self._slow),
            "Session/LoadProgram": Unary(pb.OpenQueueRequest, self._load, takes=1),
            "Session/OpenQueue": Unary(pb.OpenQueueRequest, self._give),
        }

    def _wait(self, _: object, call: Call) -> "asyncio.Future[Any]":
        self.calls.append(call)
        self.answers[call.id] = asyncio.get_running_loop().create_future()
        return self.answers[call.id]

    async def _slow(self, _: object, call: Call) -> pb.OpenQueueResponse:
        return cast("pb.OpenQueueResponse", await self._wait(_, call))

    async def _load(self, _: object, call: Call) -> pb.OpenQueueResponse:
        self.read.append(os.pread(call.received[0], 100, 0))
        return await self._slow(_, call)

    async def _watch(self, _: object, call: Call) -> AsyncIterator[pb.OpenQueueResponse]:
        yield pb.OpenQueueResponse(queue_id=len(self.calls))
        await self._slow(_, call)

    async def _give(self, _: object, call: Call) -> pb.OpenQueueResponse:
        call.attached.append(os.memfd_create("given"))
        return pb.OpenQueueResponse(queue_id=call.id)


class Bench:
    """A client's socket, and the peer that serves it: first one, then its successor."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.closed: list[str] = []
        self.decoder = Decoder(1 << 20)
        self.first, self.second = Broker(group), Broker(group)
        self.peer = Peer(theirs, self.first.methods, group, lambda _: True, self.closed.append)
        self.say(pb.Frame(hello=pb.Hello()))

    def say(self, *said: pb.Frame, descriptors: tuple[int, ...] = ()) -> None:
        for frame in said:
            send(self.sock, encode(frame.SerializeToString(), descriptors), descriptors)

    async def replace(self) -> Left:
        await self.peer.suspend()
        left = self.peer.give_away()
        group = self.second.group
        self.peer = Peer(
            left.socket, self.second.methods, group, lambda _: False, self.closed.append
        )
        self.peer.resume(cast("Session", SimpleNamespace(id=7)), left)
        for pending in left.pending:
            self.peer.repeat(pending, asyncio.get_running_loop().time())
        return left

    async def heard(self) -> pb.Frame:
        """The next frame; its descriptors are closed."""
        while True:
            for message in self.decoder.messages():
                message.close()
                return pb.Frame.FromString(message.payload)
            try:
                data, descriptors = receive(self.sock)
            except BlockingIOError:
                await readable(self.sock)
            else:
                assert data, self.closed
                self.decoder.feed(data, descriptors)

    async def answer(self, broker: Broker, number: int) -> pb.Frame:
        broker.answers[number].set_result(pb.OpenQueueResponse(queue_id=number))
        return await self.heard()


@asynccontextmanager
async def a_bench() -> AsyncIterator[Bench]:
    before = open_descriptors()
    async with asyncio.TaskGroup() as group:
        bench = Bench(group)
        try:
            yield bench
        finally:
            bench.peer.close("the test is over")
            bench.sock.close()
            for broker in (bench.first, bench.second):
                for answer in broker.answers.values():
                    answer.cancel()
    await asyncio.sleep(0)
    bench.decoder.close()
    assert open_descriptors() == before


@pytest.fixture(autouse=True)
def settle_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("program")
    os.write(fd, b"ENF")
    yield fd
    os.close(fd)


def call(number: int, method: str) -> pb.Frame:
    return pb.Frame(id=number, call=pb.Call(method=method))


async def test_a_call_that_waits_is_made_again_and_answered_once_by_the_successor() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Acquire"))
        await until(lambda: 3 in bench.first.answers)
        await bench.replace()
        [again] = bench.second.calls
        assert again.session is not None
        assert again.session.id == 7
        bench.first.answers[3].set_result(pb.OpenQueueResponse(queue_id=99))  # too late: not heard
        answer = await bench.answer(bench.second, 3)
        assert (answer.id, answer.reply.response) == (
            3,
            pb.OpenQueueResponse(queue_id=3).SerializeToString(),
        )
        assert bench.closed == []


async def test_how_long_a_call_has_waited_is_known_to_all_successors() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Acquire"))
        await until(lambda: 3 in bench.first.answers)
        assert bench.first.calls[0].waited == 0
        [pending] = (await bench.replace()).pending
        [first] = bench.second.calls
        assert first.waited > 0
        [again] = (await bench.replace()).pending
        assert again.since == pytest.approx(pending.since, abs=1e-3)
        assert bench.second.calls[1].waited > first.waited


async def test_the_client_can_still_cancel_a_call_that_was_made_again() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Acquire"))
        await until(lambda: 3 in bench.first.answers)
        await bench.replace()
        bench.say(pb.Frame(id=3, cancel=pb.Cancel()))
        await until(lambda: bench.second.answers[3].cancelled())


async def test_a_stream_goes_on() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Watch"))
        assert (await bench.heard()).id == 3
        await bench.replace()
        assert (await bench.heard()).id == 3


async def test_a_call_that_ends_soon_is_waited_for() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Release"))
        await until(lambda: 3 in bench.first.answers)
        asyncio.get_running_loop().call_soon(
            bench.first.answers[3].set_result, pb.OpenQueueResponse()
        )
        assert (await bench.replace()).pending == []
        assert (await bench.heard()).WhichOneof("body") == "reply"


async def test_a_call_that_takes_too_long_fails_and_says_that_it_may_be_tried_again() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Release"))
        await until(lambda: 3 in bench.first.answers)
        assert (await bench.replace()).pending == []
        failure = (await bench.heard()).failure
        assert isinstance(error_from_wire(failure), BrokerDraining)
        assert bench.second.calls == []


async def test_a_load_is_made_again_with_its_program(memory: int) -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Session/LoadProgram"), descriptors=(memory,))
        await until(lambda: bench.first.read == [b"ENF"])
        await bench.replace()
        await until(lambda: bench.second.read == [b"ENF"])
        assert (await bench.answer(bench.second, 3)).WhichOneof("body") == "reply"


@pytest.mark.parametrize("cut", [1, 5, 6, 20])
async def test_half_a_frame_before_and_the_rest_after_is_one_call(memory: int, cut: int) -> None:
    async with a_bench() as bench:
        data = encode(call(3, "Session/LoadProgram").SerializeToString(), (memory,))
        send(bench.sock, data[:cut], (memory,))
        await until(lambda: bench.peer.burden[0] == cut)
        left = await bench.replace()
        assert (len(left.received[0]), bench.first.calls) == (cut, [])
        send(bench.sock, data[cut:])
        await until(lambda: bench.second.read == [b"ENF"])


async def test_frames_that_nobody_looked_at_yet_come_after_those_that_wait() -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Leases/Acquire"))
        await until(lambda: 3 in bench.first.answers)
        await bench.peer.suspend()
        bench.say(pb.Frame(id=3, cancel=pb.Cancel()), call(4, "Leases/Acquire"))
        await bench.replace()
        await until(lambda: 4 in bench.second.answers)
        assert bench.second.answers[3].cancelled()
        assert bench.first.answers.keys() == {3}


async def test_what_the_client_has_not_taken_reaches_it_whole_and_with_its_descriptors() -> None:
    async with a_bench() as bench:
        bench.peer._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for number in range(1, 51):
            bench.say(call(number, "Session/OpenQueue"))
        await until(lambda: bench.peer.burden[1] > 20)
        left = await bench.replace()
        assert sum(len(fds) for _, fds in left.unsent) > 20
        assert [(await bench.heard()).id for _ in range(50)] == list(range(1, 51))


async def test_a_client_that_leaves_meanwhile_is_noticed_by_the_successor(memory: int) -> None:
    async with a_bench() as bench:
        bench.say(call(2, "Leases/Acquire"))
        bench.say(call(3, "Session/LoadProgram"), descriptors=(memory,))
        await until(lambda: bench.first.answers.keys() == {2, 3})
        await bench.peer.suspend()
        bench.sock.close()
        await bench.replace()
        await until(lambda: bench.closed != [])
        assert len(bench.closed) == 1


async def test_a_connection_that_ends_while_suspended_keeps_no_descriptors(memory: int) -> None:
    async with a_bench() as bench:
        bench.say(call(3, "Session/LoadProgram"), descriptors=(memory,))
        await until(lambda: 3 in bench.first.answers)
        await bench.peer.suspend()
        bench.peer.close("its process died")
    assert bench.closed == ["its process died"]


async def test_a_suspended_connection_takes_nothing_in() -> None:
    async with a_bench() as bench:
        bench.say(call(1, "Session/OpenQueue"))
        await bench.heard()
        await bench.peer.suspend()
        bench.say(call(3, "Leases/Acquire"))
        left = await bench.replace()
        assert (left.received, bench.first.calls) == ((b"", []), [])
        await until(lambda: 3 in bench.second.answers)
