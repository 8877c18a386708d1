"""All connections handed to the next broker process: in their order, and no more than fits."""

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.rpc import handoff
from furiosa.broker.rpc.handoff import HandoffServer
from furiosa.broker.rpc.methods import Call, Method, Prompt
from furiosa.broker.sessions import Sessions
from furiosa.broker.succession import pack, unpack
from furiosa.common.channel import Decoder, encode, receive
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.waiting import readable, until


class Broker:
    """A server and its listener. `calls` are the sessions and numbers of calls that wait."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.calls: list[tuple[int, int]] = []
        self.came: list[float] = []  # when they came, as far as this broker can know
        self.stall: Callable[[], None] = lambda: None
        methods: dict[str, Method] = {
            "Leases/Acquire": Prompt(pb.OpenQueueRequest, self._wait),
            "Leases/List": Prompt(pb.OpenQueueRequest, self._answer),
        }
        self.sessions = Sessions(lambda _: None, lambda _, cause: None, lambda _: None)
        self.deaths = DeathWatch(lambda _: None)
        self.server = HandoffServer(
            methods, self.sessions, self.deaths, lambda s: pb.Welcome(session_token=s.token)
        )
        self._serving: asyncio.Task[None] | None = None

    def _wait(self, _: object, call: Call) -> "asyncio.Future[Any]":
        self.stall()
        self.calls.append((call.need_session().id, call.id))
        self.came.append(time.monotonic() - call.waited)
        return asyncio.get_running_loop().create_future()

    def _answer(self, _: object, call: Call) -> pb.OpenQueueResponse:
        return pb.OpenQueueResponse(queue_id=call.id)

    async def start(self) -> None:
        await self.deaths.start()
        self._serving = asyncio.create_task(self.server.serve(self.listener, lambda: None))
        await self.server.serving.wait()

    async def stop(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        await self.deaths.stop()


class Bench:
    def __init__(self, listener: socket.socket, path: Path) -> None:
        self._path = path
        self.first, self.second = Broker(listener), Broker(listener)

    async def client(self) -> socket.socket:
        """With a session."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await loop.sock_connect(sock, str(self._path))
        await say(sock, pb.Frame(hello=pb.Hello(protocol_version=1, client="test")))
        assert (await hear(sock)).welcome.session_token
        return sock

    async def replace(self) -> None:
        await self.first.server.suspend()
        for session, owner, left, armed in self.first.server.give_away():
            self.second.server.restore(session, owner, left, armed)
        await self.second.start()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    path = folder / "h"
    with handoff.listen(path, 0o600) as listener:
        made = Bench(listener, path)
        await made.first.start()
        yield made
        await made.second.stop()
        await made.first.stop()
    path.unlink()
    folder.rmdir()


async def say(sock: socket.socket, frame: pb.Frame) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, encode(frame.SerializeToString()))


async def hear(sock: socket.socket) -> pb.Frame:
    """The next frame, which comes alone."""
    decoder = Decoder(1 << 20)
    while True:
        try:
            data, descriptors = receive(sock)
        except BlockingIOError:
            await readable(sock)
            continue
        if not data:
            raise EOFError
        decoder.feed(data, descriptors)
        for message in decoder.messages():
            message.close()
            return pb.Frame.FromString(message.payload)


def call(number: int, method: str) -> pb.Frame:
    return pb.Frame(id=number, call=pb.Call(method=method))


async def test_calls_of_all_connections_are_made_again_in_the_order_in_which_they_came(
    bench: Bench,
) -> None:
    clients = [await bench.client() for _ in range(5)]
    order = [3, 0, 4, 0, 1, 3, 2, 2, 0]
    for number, place in enumerate(order, start=1):
        await say(clients[place], call(number, "Leases/Acquire"))
        await until(lambda number=number: len(bench.first.calls) == number)  # type: ignore[misc]
    await bench.replace()
    assert bench.second.calls == bench.first.calls
    assert [number for _, number in bench.second.calls] == list(range(1, len(order) + 1))
    for client in clients:
        client.close()


async def test_a_successor_that_stalls_meanwhile_does_not_change_who_has_waited_longest(
    bench: Bench,
) -> None:
    clients = [await bench.client() for _ in range(3)]
    for number, client in enumerate(clients, start=1):
        await say(client, call(1, "Leases/Acquire"))
        await until(lambda number=number: len(bench.first.calls) == number)  # type: ignore[misc]
    stalls = iter((0.2, 0.0, 0.0))
    bench.second.stall = lambda: time.sleep(next(stalls))
    await bench.replace()
    assert bench.second.calls == bench.first.calls
    assert bench.second.came == sorted(bench.second.came)
    for client in clients:
        client.close()


async def test_one_that_is_too_much_to_hand_over_is_hung_up_on_and_the_others_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "MOST_BYTES", 2000)
    greedy, modest = await bench.client(), await bench.client()
    for number in range(1, 101):
        await say(greedy, call(number, "Leases/Acquire"))
    await say(modest, call(1, "Leases/Acquire"))
    await until(lambda: len(bench.first.calls) == 101)
    await bench.replace()
    with pytest.raises(EOFError):
        await hear(greedy)
    await say(modest, call(2, "Leases/List"))
    assert (await hear(modest)).id == 2
    assert len(bench.second.sessions) == 1
    for client in (greedy, modest):
        client.close()


async def test_those_who_came_last_are_hung_up_on_when_there_are_too_many(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "MOST_DESCRIPTORS", 3 * handoff.OWN_DESCRIPTORS)
    clients = [await bench.client() for _ in range(5)]
    await bench.replace()
    for client in clients[:3]:
        await say(client, call(1, "Leases/List"))
        assert (await hear(client)).id == 1
    for client in clients[3:]:
        with pytest.raises(EOFError):
            await hear(client)
    for client in clients:
        client.close()


async def test_nobody_is_accepted_any_more_even_if_that_was_about_to_be_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "RETRY_ACCEPT_SECONDS", 0.001)
    server = bench.first.server
    failed = asyncio.Event()
    with monkeypatch.context() as patch:

        def no_descriptors() -> tuple[socket.socket, object]:
            failed.set()
            raise OSError(24, os.strerror(24))

        patch.setattr(server, "_listener", _Failing(bench.first.listener, no_descriptors))
        early = socket.socket(socket.AF_UNIX)
        early.connect(bench.first.listener.getsockname())
        await failed.wait()
        assert server._retry is not None
        await server.suspend()
    # timers fire in their order, and the one to try again was set before this one
    await asyncio.sleep(handoff.RETRY_ACCEPT_SECONDS)
    await asyncio.sleep(0)  # by now it would have accepted
    assert server.connections == set()
    early.setblocking(False)
    await bench.second.start()
    await say(early, pb.Frame(hello=pb.Hello(protocol_version=1)))
    assert (await hear(early)).welcome.session_token
    early.close()


class _Failing:
    def __init__(self, listener: socket.socket, accept: Any) -> None:
        self.fileno = listener.fileno
        self.accept = accept


async def test_a_successor_gives_nobody_the_number_of_a_session_that_has_ended(
    bench: Bench,
) -> None:
    for _ in range(3):
        (await bench.client()).close()
    await until(lambda: len(bench.first.sessions) == 0)
    await bench.first.server.suspend()
    left = pack(bench.first.server, {})
    unpack(left, left.usable(), bench.second.server)
    await bench.second.start()
    with await bench.client():
        assert [session.id for session in bench.second.sessions] == [4]
