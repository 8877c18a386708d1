"""The blocking twin under many threads and under Ctrl-C: everybody gets his own answer, nobody hangs."""

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from furiosa.client._core.stream import Stream
from furiosa.client._sync import io
from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import UtilizationView, WorkerDiedNotice
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2
from support.fake_broker import FakeBroker, Peer, fake_broker
from support.leaks import nothing_left_open

PE0 = DeviceFile(0, CoreRange(0, 0))
DIED = WorkerDiedNotice("a1", PE0, "killed by signal 9")


def echo(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    """Answers with the window that was asked for, as a pid."""
    window = devices_pb2.UtilizationRequest.FromString(request).window_ms
    use = UtilizationView(PE0, 0, 0.0, 0.0, 0.0, window, "", 0)
    message = devices_pb2.UtilizationResponse(utilizations=[wire.utilization_to_wire(use)])
    peer.reply(message)


def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    peer.reply(leases_pb2.ListLeasesResponse())


def ask(connection: Connection, number: int) -> int:
    (use,) = connection.utilization(number)
    return use.pid


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    answers = fake_broker(Devices_Utilization=echo, Leases_List=listing)
    with nothing_left_open(), answers as broker:
        yield broker


@pytest.fixture
def connection(broker: FakeBroker) -> Iterator[Connection]:
    with Connection.open(broker.address, client="t") as connection:
        yield connection


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_every_thread_gets_its_own_answer(connection: Connection, pool: ThreadPoolExecutor) -> None:
    numbers = range(1, 801)
    assert list(pool.map(lambda number: ask(connection, number), numbers)) == list(numbers)


def test_answers_may_come_in_any_order(
    broker: FakeBroker, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    held: list[tuple[int, bytes]] = []

    def hold(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        held.append((peer.id, request))
        if len(held) == 16:
            random.Random(0).shuffle(held)
            for peer.id, waiting in held:
                echo(peer, waiting, ())
            held.clear()

    broker.handlers["Devices/Utilization"] = hold
    numbers = range(1, 65)
    assert list(pool.map(lambda number: ask(connection, number), numbers)) == list(numbers)


def test_each_waiter_wakes_for_its_own_descriptor(
    connection: Connection, pool: ThreadPoolExecutor
) -> None:
    pipes = [os.pipe() for _ in range(8)]
    waiting = [pool.submit(connection.wait, (reading,)) for reading, _ in pipes]
    for (_, writing), future in zip(reversed(pipes), reversed(waiting), strict=True):
        assert not future.done()
        os.write(writing, b"x")
        future.result(timeout=20)
        assert ask(connection, 5) == 5  # whoever leads now reads for us
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_call_is_answered_after_its_leader_left(
    broker: FakeBroker, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    held: list[Peer] = []
    broker.handlers["Leases/List"] = lambda peer, request, fds: held.append(peer)
    for _ in range(20):
        reading, writing = os.pipe()
        leader = pool.submit(connection.wait, (reading,))
        call = pool.submit(connection.leases)
        broker.seen("Leases/List")
        broker.calls.clear()
        os.write(writing, b"x")
        leader.result(timeout=20)
        listing(held.pop(), b"", ())
        assert call.result(timeout=20) == ()
        os.close(reading)
        os.close(writing)


def test_notice_wakes_who_waits_for_that_lease_only(
    broker: FakeBroker, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    def notify(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.send(handoff_pb2.Frame(notice=wire.notice_to_wire(DIED)))
        listing(peer, request, fds)

    broker.handlers["Leases/List"] = notify
    reading, writing = os.pipe()
    mine = pool.submit(connection.wait, (reading,), "a1")
    any_lease = pool.submit(connection.wait, (reading,))
    other = pool.submit(connection.wait, (reading,), "b2")
    connection.leases()
    mine.result(timeout=20)
    any_lease.result(timeout=20)
    assert connection.take_notices("a1") == [DIED]
    assert not other.done()
    os.write(writing, b"x")
    other.result(timeout=20)
    os.close(reading)
    os.close(writing)


END: dict[str, Callable[[FakeBroker, Connection], None]] = {
    "the broker dies": lambda broker, connection: broker.die(),
    "another thread closes": lambda broker, connection: connection.close(),
}


@pytest.mark.parametrize("end", END.values(), ids=END.keys())
def test_everybody_who_waits_learns_of_the_end(
    broker: FakeBroker,
    connection: Connection,
    pool: ThreadPoolExecutor,
    end: Callable[[FakeBroker, Connection], None],
) -> None:
    broker.handlers["Leases/List"] = lambda peer, request, fds: None
    waiting: list[Future[object]] = [pool.submit(connection.leases) for _ in range(6)]
    waiting += [pool.submit(connection.wait, ()) for _ in range(6)]
    broker.seen("Leases/List", 6)
    end(broker, connection)
    for future in waiting:
        with pytest.raises(BrokerUnavailable):
            future.result(timeout=20)


def test_broker_that_does_not_read_blocks_nobody_for_ever(
    broker: FakeBroker, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    gate = threading.Event()

    def stop_reading(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        gate.wait(20)
        listing(peer, request, fds)

    large = handoff_pb2.Hello(client="x" * 300_000)  # more than a socket takes at once
    broker.handlers["Leases/List"] = stop_reading
    broker.handlers["Large"] = listing
    first = pool.submit(connection.leases)
    broker.seen("Leases/List")
    calls = [pool.submit(connection._session.call, "Large", large) for _ in range(5)]
    with pytest.raises(BrokerUnavailable, match=r"no answer within 0\.05 s to Large"):
        connection._session.call("Large", large, 0.05)
    gate.set()
    first.result(timeout=20)
    for call in calls:
        assert call.result(timeout=20) == (b"", ())
    assert ask(connection, 3) == 3  # the frame that was given up on has not been cut in two


# Ctrl-C


def test_call_that_is_interrupted_while_it_waits_is_withdrawn_and_the_connection_goes_on(
    broker: FakeBroker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> frozenset[int]:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.leases()
    broker.seen("cancel")
    assert ask(connection, 9) == 9


@pytest.mark.parametrize("step", ["receive", "post"])
def test_interrupt_that_may_have_lost_bytes_ends_the_session_by_name(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = getattr(Stream, step)

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.leases()
    with pytest.raises(BrokerUnavailable, match=r"interrupted while (reading|sending)"):
        connection.leases()


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, which pytest keeps for itself."""


@contextlib.contextmanager
def interruptions(seed: int, target: int) -> Iterator[threading.Event]:
    """Interrupts thread `target` at random moments while the event is set."""
    armed, over = threading.Event(), threading.Event()
    chance = random.Random(seed)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if armed.is_set():
            armed.clear()
            raise Interrupted

    def run() -> None:
        while not over.is_set():
            if armed.wait(0.1):
                over.wait(chance.uniform(0, 0.001))
                if armed.is_set():
                    signal.pthread_kill(target, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield armed
    finally:
        armed.clear()
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def was_interrupted(error: BrokerUnavailable) -> bool:
    return error.cause.startswith("interrupted while")


def test_interrupt_at_any_moment_leaves_the_others_working_or_told(broker: FakeBroker) -> None:
    """Between any two steps of the main thread, another one must never hang."""
    opened = [Connection.open(broker.address, client="t")]
    stop = threading.Event()
    answered: Counter[int] = Counter()
    told: list[BrokerUnavailable] = []

    def bystander(number: int) -> None:
        while not stop.is_set():
            try:
                assert ask(opened[-1], number) == number
                answered[number] += 1
            except BrokerUnavailable as exc:
                told.append(exc)
                stop.wait(0.0005)  # until the main thread has opened another

    with ThreadPoolExecutor(2) as pool:
        bystanders = [pool.submit(bystander, number) for number in (1, 2)]
        with interruptions(7, threading.main_thread().ident or 0) as armed:
            for number in range(1000, 1400):
                try:
                    armed.set()
                    while True:
                        assert ask(opened[-1], number) == number
                except Interrupted:
                    pass
                except BrokerUnavailable as exc:
                    told.append(exc)
                armed.clear()
                try:
                    assert ask(opened[-1], number) == number
                    answered[0] += 1
                except BrokerUnavailable as exc:
                    told.append(exc)
                    opened.append(Connection.open(broker.address, client="t"))
        stop.set()
        for future in bystanders:
            future.result(timeout=20)
    for connection in opened:
        connection.close()
    assert all(map(was_interrupted, told)), told
    assert min(answered[0], answered[1], answered[2]) > 0
