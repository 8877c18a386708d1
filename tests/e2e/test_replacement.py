"""SIGUSR2: the broker becomes a new one in place, and its clients notice as little as can be."""

import itertools
import threading
from collections.abc import Callable

import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.clients import HOLD, Client
from support.daemon import Daemon
from support.replacing import replaced, zombies
from support.soak_leaks import descriptors_of
from support.waiting import until

PE0, PE1 = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:0:1")

InThread = Callable[[Callable[[], object]], threading.Thread]


def test_leases_and_connections_survive(daemon: Daemon) -> None:
    with Connection.open(client="holder") as holder:
        lease = holder.acquire(PE0)
        replaced(daemon, 3)
        (found,) = holder.leases()
        assert (found.id, found.state) == (lease.id, LeaseState.GRANTED)
        holder.release(lease.id)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
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


def test_nobody_who_comes_or_releases_meanwhile_is_refused(
    daemon: Daemon, in_thread: InThread
) -> None:
    stop = threading.Event()
    failures: list[Exception] = []
    done = itertools.count()

    def come_and_go() -> None:
        while not stop.is_set():
            with Connection.open(client="visitor") as visitor:
                visitor.release(visitor.acquire(PE1, wait_limit=60).id)
            next(done)

    def stay() -> None:
        with Connection.open(client="guest") as guest:
            while not stop.is_set():
                guest.release(guest.acquire(PE0, wait_limit=60).id)
                next(done)

    def noting(run: Callable[[], None]) -> Callable[[], None]:
        def noted() -> None:
            try:
                run()
            except Exception as exc:
                failures.append(exc)

        return noted

    visitors = [in_thread(noting(come_and_go)) for _ in range(3)]
    visitors += [in_thread(noting(stay)) for _ in range(2)]
    replaced(daemon, 2)
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert failures == []
    assert next(done) > 5
    with Connection.open(client="last") as last:
        assert last.leases() == (), "none was granted to somebody who does not know of it"


async def test_nothing_is_left_over_by_many_replacements(daemon: Daemon) -> None:
    with Connection.open(client="stays") as connection:
        lease = connection.acquire(PE0)
        never_replaced = descriptors_of(daemon.pid)
        replaced(daemon, 5)
        await until(lambda: descriptors_of(daemon.pid) == never_replaced)
        assert zombies(daemon.pid) == []
        assert len(daemon.descendants()) == 1, "one zygote"
        connection.release(lease.id)
