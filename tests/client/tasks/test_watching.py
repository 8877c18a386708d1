"""Streams and places in the queue, in the asynchronous twin."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio

from furiosa.client import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import QueuedNotice
from furiosa.proto.broker.v1 import leases_pb2
from support.fake_broker import FakeBroker, Peer
from support.held import Held, ask, seen

SPEC = DeviceSpec.parse("npu0pe0")


def state(revision: int) -> leases_pb2.WatchLeasesResponse:
    return leases_pb2.WatchLeasesResponse(revision=revision)


def test_states_come_while_others_call(run: Callable[[Any], None], broker: FakeBroker) -> None:
    streams: list[Peer] = []
    broker.handlers["Leases/Watch"] = lambda peer, request, fds: streams.append(replace(peer))

    async def test(connection: Connection) -> None:
        seen_revisions: list[int] = []

        async def watch() -> None:
            async for overview in connection.watch_leases():
                seen_revisions.append(overview.revision)
                if overview.revision == 3:
                    streams[0].end()
                else:
                    streams[0].reply(state(overview.revision + 1))

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await seen(broker, "Leases/Watch")
            streams[0].reply(state(1))
            for number in range(1, 20):
                group.start_soon(ask, connection, number)
        assert seen_revisions == [1, 2, 3]

    run(test)


def test_leaving_the_loop_cancels_the_watch(
    run: Callable[[Any], None], broker: FakeBroker, held: Held
) -> None:
    async def test(connection: Connection) -> None:
        async for overview in connection.watch_leases():
            assert overview.revision == 1
            break
        assert await ask(connection, 9) == 9
        assert not held.streams

    run(test)
    assert broker.calls["cancel"] == 1


def test_a_wait_for_the_next_state_that_is_cancelled_can_be_taken_up_again(
    run: Callable[[Any], None], broker: FakeBroker
) -> None:
    streams: list[Peer] = []
    broker.handlers["Leases/Watch"] = lambda peer, request, fds: streams.append(replace(peer))

    async def test(connection: Connection) -> None:
        async with connection.watch_leases() as watch:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(anext, watch)
                    await seen(broker, "Leases/Watch")
                    scope.cancel()
            streams[0].reply(state(7))
            assert (await anext(watch)).revision == 7

    run(test)


def test_the_task_that_waits_hears_its_place(
    run: Callable[[Any], None], broker: FakeBroker, held: Held
) -> None:
    heard: list[int] = []
    waiting: list[Peer] = []
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: waiting.append(replace(peer))

    async def test(connection: Connection) -> None:
        told = anyio.Event()

        def hear(notice: QueuedNotice) -> None:
            heard.append(notice.position)
            told.set()

        async def wait() -> None:
            lease = await connection.acquire(SPEC, math.inf, on_queued=hear)
            await connection.release(lease.id)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await seen(broker, "Leases/Acquire")
            waiting[0].notify(QueuedNotice(waiting[0].id, 4, "npu0pe0 is held"))
            await told.wait()
            held.acquire(waiting[0], b"", ())

    run(test)
    assert heard == [4]
    assert not held.leases
