"""The asynchronous twin under many tasks."""

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from furiosa.client import Connection
from furiosa.common import wire
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.views import (
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import handoff_pb2
from support.fake_broker import FakeBroker, Peer
from support.held import PE0, ask, listing, seen

DIED = WorkerDiedNotice("a1", PE0, "killed by signal 9")


def test_every_task_gets_its_own_answer(run: Callable[[Any], None]) -> None:
    async def test(connection: Connection) -> None:
        answers: dict[int, int] = {}

        async def one(number: int) -> None:
            answers[number] = await ask(connection, number)

        async with anyio.create_task_group() as group:
            for number in range(1, 201):
                group.start_soon(one, number)
        assert answers == {number: number for number in range(1, 201)}

    run(test)


def test_each_waiter_wakes_for_its_own_descriptor(run: Callable[[Any], None]) -> None:
    pipes = [os.pipe() for _ in range(6)]
    woken: list[int] = []

    async def test(connection: Connection) -> None:
        async def one(number: int, done: anyio.Event) -> None:
            await connection.wait((pipes[number][0],))
            woken.append(number)
            done.set()

        async with anyio.create_task_group() as group:
            events = [anyio.Event() for _ in pipes]
            for number, done in enumerate(events):
                group.start_soon(one, number, done)
            for number in (5, 0, 3, 1, 2, 4):  # leaders and followers
                os.write(pipes[number][1], b"x")
                await events[number].wait()
                assert await ask(connection, 7) == 7

    run(test)
    assert woken == [5, 0, 3, 1, 2, 4]
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_two_tasks_may_wait_for_one_descriptor(run: Callable[[Any], None]) -> None:
    reading, writing = os.pipe()

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.wait, (reading,))
            group.start_soon(connection.wait, (reading, reading))
            await anyio.lowlevel.checkpoint()
            os.write(writing, b"x")

    run(test)
    os.close(reading)
    os.close(writing)


def test_notice_wakes_who_waits_for_that_lease_only(
    run: Callable[[Any], None], broker: FakeBroker
) -> None:
    def notify(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.send(handoff_pb2.Frame(notice=wire.notice_to_wire(DIED)))
        listing(peer, request, fds)

    broker.handlers["Leases/List"] = notify

    async def test(connection: Connection) -> None:
        other_woke = False

        async def other() -> None:
            nonlocal other_woke
            await connection.wait((), "b2")
            other_woke = True

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            group.start_soon(connection.leases)
            await connection.wait((), "a1")
            assert connection.take_notices("a1") == [DIED]
            assert not other_woke
            group.cancel_scope.cancel()

    run(test)


@pytest.mark.parametrize("by_us", [False, True])
def test_everybody_who_waits_learns_of_the_end(
    run: Callable[[Any], None], broker: FakeBroker, by_us: bool
) -> None:
    broker.handlers["Leases/List"] = lambda peer, request, fds: None
    told: list[str] = []

    async def test(connection: Connection) -> None:
        async def one(act: Callable[[], Awaitable[object]]) -> None:
            try:
                await act()
            except BrokerUnavailable as exc:
                told.append(exc.cause)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one, connection.leases)
                group.start_soon(one, lambda: connection.wait(()))
            await seen(broker, "Leases/List", 3)
            if by_us:
                await connection.close()
            else:
                broker.die()

    run(test)
    assert told == ["this connection was closed" if by_us else "it closed the connection"] * 6


def test_cancelled_leader_hands_on(run: Callable[[Any], None], broker: FakeBroker) -> None:
    peers: list[Peer] = []
    broker.handlers["Leases/List"] = lambda peer, request, fds: peers.append(peer)

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def leader() -> None:
                with scope:
                    await connection.wait(())

            group.start_soon(leader)
            await anyio.lowlevel.checkpoint()
            group.start_soon(connection.leases)
            await seen(broker, "Leases/List")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            listing(peers.pop(), b"", ())

    run(test)


def test_broker_that_does_not_read_blocks_nobody_for_ever(
    run: Callable[[Any], None], broker: FakeBroker
) -> None:
    gate = threading.Event()
    large = handoff_pb2.Hello(client="x" * 300_000)  # more than a socket takes at once

    def stop_reading(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        gate.wait(20)
        listing(peer, request, fds)

    broker.handlers["Leases/List"] = stop_reading
    broker.handlers["Large"] = listing

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.leases)
            await seen(broker, "Leases/List")
            for _ in range(5):
                group.start_soon(connection._session.call, "Large", large)
            with anyio.CancelScope() as scope:
                group.start_soon(anyio.lowlevel.checkpoint)
                scope.deadline = anyio.current_time() + 0.05
                await connection._session.call("Large", large)
            gate.set()
        assert await ask(connection, 3) == 3  # the frame of the cancelled call was not cut in two
        assert broker.calls["Large"] == 6

    run(test)
