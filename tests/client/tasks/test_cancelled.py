"""Calls of the asynchronous twin, cancelled at each place where they wait."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from furiosa.client import Connection
from furiosa.client._async import io
from furiosa.common.selector import DeviceSpec
from furiosa.queuepair.layout import Geometry
from support.cuts import Cut
from support.fake_broker import FakeBroker
from support.held import PE0, Held, ask, seen

SPEC = DeviceSpec.parse("npu0pe0")


Act = Callable[[Connection], Awaitable[None]]


async def acquire(connection: Connection) -> None:
    lease = await connection.acquire(SPEC)
    with anyio.CancelScope(shield=True):
        await connection.release(lease.id)


async def load(connection: Connection) -> None:
    program = await connection.load_program("a1", b"enf")
    with anyio.CancelScope(shield=True):
        await connection.unload_program("a1", program.id)


async def open_queue(connection: Connection) -> None:
    queue_id, descriptors = await connection.open_queue("a1", PE0, Geometry(8, 4096))
    descriptors.close()
    with anyio.CancelScope(shield=True):
        await connection.close_queue("a1", queue_id)


async def watch(connection: Connection) -> None:
    async with connection.watch_leases() as states:
        assert (await anext(states)).revision == 1


@pytest.mark.parametrize("act", [acquire, load, open_queue, watch])
@pytest.mark.parametrize("late", [False, True], ids=["before the answer", "after the answer"])
@pytest.mark.parametrize("crowd", [0, 3], ids=["alone", "among others"])
def test_call_cancelled_at_any_await_leaves_nothing_behind(
    run: Callable[[Any], None],
    broker: FakeBroker,
    held: Held,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    late: bool,
    crowd: int,
) -> None:
    """Cancels the n-th time that anybody waits, for every n there is."""
    real = io.ready
    scopes: list[anyio.CancelScope] = []
    left = 0

    async def ready(
        reads: Collection[int], writes: Collection[int], seconds: float | None
    ) -> frozenset[int]:
        nonlocal left
        left -= 1
        if left != 0:
            return await real(reads, writes, seconds)
        if late:
            await real(reads, writes, seconds)
        scopes[-1].cancel()
        await anyio.lowlevel.checkpoint()
        return await real(reads, writes, seconds)

    async def test(connection: Connection) -> None:
        nonlocal left
        monkeypatch.setattr(io, "ready", ready)
        for place in range(1, 50):
            scopes.append(anyio.CancelScope())
            left = place
            async with anyio.create_task_group() as group:
                for number in range(crowd):
                    group.start_soon(ask, connection, number + 1)
                with scopes[-1]:
                    await act(connection)
            assert await ask(connection, 9) == 9
            assert not held.leases
            assert not held.programs
            assert not held.queues
            assert not held.streams
            if left > 0:
                return
        raise AssertionError("it never came to its end")

    run(test)
    assert broker.calls["cancel"] > 0 or late


def test_cancelled_call_of_a_broker_that_listens_is_not_undone(
    run: Callable[[Any], None], broker: FakeBroker
) -> None:
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: None

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.acquire, SPEC)
            await seen(broker, "Leases/Acquire")
            group.cancel_scope.cancel()
        assert await ask(connection, 9) == 9

    run(test)
    assert broker.calls["cancel"] == 1
    assert broker.calls["Leases/Release"] == 0


def test_cancelling_does_not_wait_for_ever_for_a_broker_that_is_stuck(
    run: Callable[[Any], None], broker: FakeBroker
) -> None:
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: None
    broker.handlers["Leases/List"] = lambda peer, request, fds: None

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.acquire, SPEC)
            await seen(broker, "Leases/Acquire")
            group.cancel_scope.cancel()

    run(test)
    broker.seen("cancel", 2)  # of the call, and of the question how it went


def test_lease_that_is_granted_while_its_request_is_being_cancelled_is_given_back(
    run: Callable[[Any], None], broker: FakeBroker, held: Held
) -> None:
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: None
    broker.handlers["cancel"] = held.acquire  # it did not see the cancellation coming

    async def test(connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.acquire, SPEC)
            await seen(broker, "Leases/Acquire")
            group.cancel_scope.cancel()
        assert not held.leases

    run(test)
    assert broker.calls["Leases/Release"] == 1


@pytest.mark.parametrize("taken", ["leases", "programs", "queues"])
@pytest.mark.parametrize("how", ["task", "late"])
async def test_so_it_is_when_asyncio_itself_cancels(
    broker: FakeBroker, held: Held, taken: str, how: str
) -> None:
    """Whose cancellation no scope of anyio holds back."""
    async with await Connection.open(broker.address, client="t") as connection:
        for place in itertools.count(1):
            cut = Cut(place, how)
            if taken == "leases":
                await cut(connection.acquire(SPEC))
            elif taken == "programs":
                await cut(connection.load_program("a1", b"enf"))
            elif result := await cut(connection.open_queue("a1", PE0, Geometry(8, 4096))):
                result[1].close()
            assert await ask(connection, 9) == 9
            if not cut.came:
                break
            assert not cut.done
            assert not getattr(held, taken)
    assert place > 1
    assert len(getattr(held, taken)) == 1


@pytest.mark.parametrize("how", ["task", "late"])
async def test_a_lease_that_comes_too_late_is_given_back_though_cancelled_again(
    broker: FakeBroker, held: Held, how: str
) -> None:
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: None
    broker.handlers["cancel"] = held.acquire  # it did not see the cancellation coming
    async with await Connection.open(broker.address, client="t") as connection:
        for place in itertools.count(1):
            cut = Cut(place, how)
            task = asyncio.ensure_future(cut(connection.acquire(SPEC)))
            await asyncio.to_thread(broker.seen, "Leases/Acquire", place)
            await anyio.wait_all_tasks_blocked()
            task.cancel()
            await asyncio.wait((task,))
            assert await ask(connection, 9) == 9
            assert not held.leases
            if not cut.came:
                break
    assert place > 1
