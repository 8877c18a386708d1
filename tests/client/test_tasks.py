"""The asynchronous twin under many tasks, and cancelled at each place where it waits."""

import asyncio
import importlib.util
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from furiosa.client import Connection
from furiosa.client._async import io
from furiosa.common import wire
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import (
    LeaseState,
    LeaseView,
    OwnerView,
    ProgramView,
    UtilizationView,
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2
from furiosa.queuepair.layout import Geometry
from support.fake_broker import FakeBroker, Peer, fake_broker

BACKENDS = [name for name in ("asyncio", "trio") if importlib.util.find_spec(name)]
PE0 = DeviceFile(0, CoreRange(0, 0))
SPEC = DeviceSpec.parse("npu0pe0")
DIED = WorkerDiedNotice("a1", PE0, "killed by signal 9")


def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    peer.reply(leases_pb2.ListLeasesResponse())


def echo(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    """Answers with the window that was asked for, as a pid."""
    window = devices_pb2.UtilizationRequest.FromString(request).window_ms
    use = UtilizationView(PE0, 0, 0.0, 0.0, 0.0, window, "", 0.0)
    message = devices_pb2.UtilizationResponse(utilizations=[wire.utilization_to_wire(use)])
    peer.reply(message)


class Held:
    """What clients hold of a broker that finishes every call, also one that has been cancelled."""

    def __init__(self) -> None:
        self.leases: set[str] = set()
        self.programs: set[int] = set()
        self.queues: set[int] = set()
        self._count = 0

    def next(self) -> int:
        self._count += 1
        return self._count

    def acquire(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        lease_id = f"lease-{self.next()}"
        self.leases.add(lease_id)
        owner = OwnerView(7, 1, 2, 3, "x")
        lease = LeaseView(lease_id, (PE0,), LeaseState.GRANTED, owner, 5.5)
        peer.reply(leases_pb2.AcquireResponse(lease=wire.lease_to_wire(lease)))

    def release(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.leases.remove(leases_pb2.ReleaseRequest.FromString(request).lease_id)
        peer.reply(leases_pb2.ReleaseResponse())

    def load(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        program = ProgramView(self.next(), "a1", "warboy", (), (), 3)
        self.programs.add(program.id)
        peer.reply(programs_pb2.LoadProgramResponse(program=wire.program_to_wire(program)))

    def unload(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.programs.remove(programs_pb2.UnloadProgramRequest.FromString(request).program_id)
        peer.reply(programs_pb2.UnloadProgramResponse())

    def open_queue(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        queue_id = self.next()
        self.queues.add(queue_id)
        peer.reply(handoff_pb2.OpenQueueResponse(queue_id=queue_id), (0, 1, 2))

    def close_queue(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.queues.remove(handoff_pb2.CloseQueueRequest.FromString(request).queue_id)
        peer.reply(handoff_pb2.CloseQueueResponse())


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def broker(held: Held) -> Iterator[FakeBroker]:
    before = len(os.listdir("/proc/self/fd"))
    with fake_broker(
        Devices_Utilization=echo,
        Leases_List=listing,
        Leases_Acquire=held.acquire,
        Leases_Release=held.release,
        Session_LoadProgram=held.load,
        Programs_Unload=held.unload,
        Session_OpenQueue=held.open_queue,
        Session_CloseQueue=held.close_queue,
    ) as broker:
        yield broker
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest, broker: FakeBroker) -> Callable[[Any], None]:
    """Runs a coroutine function on a connection, with nobody else in the loop."""

    def run(test: Callable[[Connection], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(60):
                async with await Connection.open(broker.address, client="t") as connection:
                    await test(connection)

        anyio.run(main, backend=request.param)

    return run


async def seen(broker: FakeBroker, name: str, count: int = 1) -> None:
    await anyio.to_thread.run_sync(broker.seen, name, count)


async def ask(connection: Connection, number: int) -> int:
    (use,) = await connection.utilization(number)
    return use.pid


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


# cancelled at each await

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


@pytest.mark.parametrize("act", [acquire, load, open_queue])
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


async def test_so_it_is_when_asyncio_itself_cancels(broker: FakeBroker, held: Held) -> None:
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: None
    broker.handlers["cancel"] = held.acquire
    async with await Connection.open(broker.address, client="t") as connection:
        task = asyncio.create_task(connection.acquire(SPEC))
        await asyncio.to_thread(broker.seen, "Leases/Acquire")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not held.leases
    assert broker.calls["Leases/Release"] == 1
