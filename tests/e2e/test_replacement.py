"""SIGUSR2: the broker becomes a new one in place, and its clients notice as little as can be."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.clients import HOLD, Client
from support.daemon import Daemon

PE0, PE1 = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:0:1")


@pytest.fixture(params=[1, 3], ids=["once", "three times"])
def times(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    threads: list[threading.Thread] = []

    def start(run: Callable[[], object]) -> threading.Thread:
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join()


def replaced(daemon: Daemon, times: int = 1) -> None:
    for _ in range(times):
        pid, before = daemon.pid, daemon.log.count("broker.ready")
        daemon.signal(signal.SIGUSR2)
        with Connection.open(client="probe") as probe:  # queues until the new one accepts
            while daemon.log.count("broker.ready") == before:
                probe.leases()
        assert daemon.pid == pid
        os.kill(pid, 0)


def test_leases_connections_and_who_waits_survive(
    daemon: Daemon, times: int, in_thread: Callable[[Callable[[], object]], threading.Thread]
) -> None:
    with Connection.open(client="holder") as holder, Connection.open(client="waiter") as waiter:
        lease = holder.acquire(PE0)
        got: list[str] = []

        def wait() -> None:
            got.append(waiter.acquire(PE0, wait_limit=100).id)

        thread = in_thread(wait)
        while not holder.overview().waiters:
            pass
        replaced(daemon, times)
        (found,) = holder.leases()
        assert (found.id, found.state) == (lease.id, LeaseState.GRANTED)
        (waiting,) = holder.overview().waiters
        assert waiting.position == 1
        assert got == []
        holder.release(lease.id)
        thread.join()
        assert got == [granted.id for granted in holder.leases()]


def test_the_death_of_an_owner_from_before_is_noticed(daemon: Daemon, times: int) -> None:
    with Client(HOLD.format(spec="npu:0:0", megabytes=300), daemon.environ) as owner:
        lease = owner.line()
        replaced(daemon, times)
        with Connection.open(client="next") as other:
            assert [found.id for found in other.leases()] == [lease]
            owner.kill()
            assert other.acquire(PE0, wait_limit=60).id != lease
    assert "owner.died" in daemon.log
    assert daemon.log.rpartition("owner.died")[2].split("\n")[0].endswith("witness=futex")


def test_nobody_who_comes_meanwhile_is_refused(
    daemon: Daemon, in_thread: Callable[[Callable[[], object]], threading.Thread]
) -> None:
    stop = threading.Event()
    failures: list[Exception] = []
    done = itertools.count()

    def come_and_go() -> None:
        while not stop.is_set():
            try:
                with Connection.open(client="visitor") as visitor:
                    visitor.release(visitor.acquire(PE1, wait_limit=60).id)
            except Exception as exc:
                failures.append(exc)
                return
            next(done)

    visitors = [in_thread(come_and_go) for _ in range(3)]
    replaced(daemon, 3)
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert failures == []
    assert next(done) > 3


def test_nothing_is_left_over_by_many_replacements(daemon: Daemon) -> None:
    with Connection.open(client="stays") as connection:
        lease = connection.acquire(PE0)
        replaced(daemon)
        before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        replaced(daemon, 4)
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 3
        assert len(daemon.descendants()) == 1, "one zygote, and no zombies of those before"
        connection.release(lease.id)
