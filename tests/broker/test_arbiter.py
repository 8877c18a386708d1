"""The arbiter with real futures and a real journal; workers are a list of who must stop."""

import asyncio
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from furiosa.broker import arbiter as arbiter_module
from furiosa.broker.arbiter import Arbiter
from furiosa.broker.changes import Changes
from furiosa.broker.journal import Journal
from furiosa.broker.lease import LeaseTable
from furiosa.common.clock import ManualClock
from furiosa.common.errors import (
    BrokerDraining,
    DeviceBusy,
    LeaseEnded,
    NotLeaseOwner,
    NotRecorded,
    UnknownDevice,
    UnknownLease,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseEndedNotice, LeaseState, LeaseView
from support.owners import FakeSession

FILES = [DeviceFile.parse(t) for t in ("npu0", "npu0pe0", "npu0pe1", "npu0pe0-1")]


class Bench:
    """An arbiter and the levers around it."""

    def __init__(self, folder: Path) -> None:
        ids = itertools.count()
        self.path = folder / "journal"
        self.journal = Journal(self.path)
        self.journal.recover()
        self.stopping: dict[str, Callable[[], None]] = {}
        self.clock = ManualClock(100.0)
        self.changes = Changes()
        self.revoking = asyncio.Event()
        table = LeaseTable(FILES, lambda: f"l{next(ids)}")
        self.arbiter = Arbiter(
            table, self.journal, self._stop, clock=self.clock, changes=self.changes
        )

    def _stop(self, lease: str, stopped: Callable[[], None]) -> None:
        self.stopping[lease] = stopped
        self.revoking.set()

    async def acquire(
        self, who: FakeSession, spec: str = "npu:0:0", wait: float = 0.0
    ) -> LeaseView:
        return await self.arbiter.acquire(who.session, DeviceSpec.parse(spec), wait)

    def workers_stopped(self, lease: str) -> None:
        self.stopping.pop(lease)()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


async def started(task: "asyncio.Task[object]") -> None:
    """Let a task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()


async def test_a_lease_tells_who_holds_what_since_when(bench: Bench) -> None:
    lease = await bench.acquire(FakeSession(7), "npu:0:0-1")
    assert (lease.owner.pid, lease.owner.command_line) == (7, "program 7")
    assert lease.device_files == (DeviceFile.parse("npu0pe0-1"),)
    assert lease.state is LeaseState.GRANTED
    assert bench.arbiter.leases() == (lease,)


async def test_busy_names_the_holder_and_his_file(bench: Bench) -> None:
    await bench.acquire(FakeSession(7), "npu:0:1")
    with pytest.raises(DeviceBusy) as caught:
        await bench.acquire(FakeSession(8), "warboy(2)*1")
    error = caught.value
    assert (error.holder_pid, error.holder_device) == (7, "npu0pe1")
    assert error.holder_command == "program 7"


async def test_what_is_not_there_is_unknown(bench: Bench) -> None:
    with pytest.raises(UnknownDevice, match="npu:3:0"):
        await bench.acquire(FakeSession(), "npu:3:0", math.inf)


async def test_release_returns_when_the_workers_have_stopped(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who)
    task = asyncio.create_task(bench.arbiter.release(who.session, lease.id))
    await started(task)
    assert bench.arbiter.leases()[0].state is LeaseState.REVOKING
    bench.workers_stopped(lease.id)
    await task
    assert bench.arbiter.leases() == ()
    assert who.notices == [LeaseEndedNotice(lease.id, "released by its owner")]


async def test_only_the_owning_process_may_release_and_only_once(bench: Bench) -> None:
    owner, same_process, stranger = FakeSession(7), FakeSession(7), FakeSession(8)
    lease = await bench.acquire(owner)
    with pytest.raises(NotLeaseOwner, match="pid 8"):
        await bench.arbiter.release(stranger.session, lease.id)
    with pytest.raises(UnknownLease):
        await bench.arbiter.release(owner.session, "nope")
    task = asyncio.create_task(bench.arbiter.release(same_process.session, lease.id))
    await started(task)
    with pytest.raises(LeaseEnded):
        await bench.arbiter.release(owner.session, lease.id)
    bench.workers_stopped(lease.id)
    await task
    with pytest.raises(LeaseEnded, match="released by its owner"):
        await bench.arbiter.release(owner.session, lease.id)


async def test_a_waiter_gets_what_a_dead_holder_had(bench: Bench) -> None:
    dead = FakeSession(7)
    lease = await bench.acquire(dead)
    waiting = asyncio.create_task(bench.acquire(FakeSession(8), wait=math.inf))
    await started(waiting)
    bench.arbiter.holder_gone(dead.session, "its process died")
    await started(waiting)
    bench.workers_stopped(lease.id)
    assert (await waiting).owner.pid == 8


async def test_a_wait_limit_that_passes_is_busy(bench: Bench) -> None:
    await bench.acquire(FakeSession(7))
    waiting = asyncio.create_task(bench.acquire(FakeSession(8), wait=1e-9))
    await asyncio.sleep(0)
    bench.clock.advance(1)
    with pytest.raises(DeviceBusy):
        await waiting


async def test_a_cancelled_waiter_leaves_nothing(bench: Bench) -> None:
    holder = FakeSession(7)
    lease = await bench.acquire(holder)
    waiting = asyncio.create_task(bench.acquire(FakeSession(8), wait=math.inf))
    await started(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.arbiter.holder_gone(holder.session, "")
    bench.workers_stopped(lease.id)
    assert bench.arbiter.leases() == ()


async def test_a_lease_granted_in_the_moment_of_cancellation_is_given_back(bench: Bench) -> None:
    holder = FakeSession(7)
    lease = await bench.acquire(holder)
    waiting = asyncio.create_task(bench.acquire(FakeSession(8), wait=math.inf))
    await started(waiting)
    bench.arbiter.holder_gone(holder.session, "")
    bench.workers_stopped(lease.id)  # grants to the waiter, which has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (granted,) = bench.stopping
    bench.workers_stopped(granted)
    assert bench.arbiter.leases() == ()


async def test_draining_gives_grace_then_revokes(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who)
    drain = asyncio.create_task(bench.arbiter.drain(grace=0.0))
    await bench.revoking.wait()
    with pytest.raises(BrokerDraining):
        await bench.acquire(FakeSession())
    assert not drain.done()
    bench.workers_stopped(lease.id)
    await drain
    assert who.notices == [LeaseEndedNotice(lease.id, "the broker is shutting down")]


async def test_an_owner_who_releases_within_the_grace_is_not_revoked(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who)
    drain = asyncio.create_task(bench.arbiter.drain(grace=3600))
    release = asyncio.create_task(bench.arbiter.release(who.session, lease.id))
    await started(release)
    bench.workers_stopped(lease.id)
    await release
    await drain
    assert who.notices == [LeaseEndedNotice(lease.id, "released by its owner")]


async def test_a_grant_that_cannot_be_journalled_is_not_given(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(NotRecorded, match="No space left"):
            await bench.acquire(FakeSession())
        (lease,) = bench.stopping
        bench.workers_stopped(lease)
    assert bench.arbiter.leases() == ()
    assert (await bench.acquire(FakeSession())).state is LeaseState.GRANTED


async def test_a_grant_stands_in_the_journal_before_anybody_is_told(bench: Bench) -> None:
    lease = await bench.acquire(FakeSession())
    assert lease.id in bench.path.read_text()
    bench.journal.close()
    (lost,) = Journal(bench.path).recover()
    assert lost.lease == lease.id


async def test_watchers_see_every_change(bench: Bench) -> None:
    who = FakeSession()
    seen = [await bench.changes.beyond(0)]
    lease = await bench.acquire(who)
    seen.append(await bench.changes.beyond(0))
    bench.arbiter.holder_gone(who.session, "")
    seen.append(await bench.changes.beyond(0))
    bench.workers_stopped(lease.id)
    seen.append(await bench.changes.beyond(0))
    assert seen == sorted(set(seen))
    assert await bench.changes.beyond(seen[-2]) == seen[-1]


async def test_a_lease_that_ends_in_the_moment_of_its_grant_is_still_an_answer(
    bench: Bench,
) -> None:
    """The holder goes before the waiting call gets to run; its caller may still be there (gRPC)."""
    first, second = FakeSession(1), FakeSession(2)
    lease = await bench.acquire(first)
    waiting = asyncio.ensure_future(bench.acquire(second, wait=math.inf))
    await started(waiting)
    bench.arbiter.holder_gone(first.session, "gone")
    bench.workers_stopped(lease.id)
    bench.arbiter.holder_gone(second.session, "gone")
    bench.workers_stopped("l1")
    assert (await waiting).id == "l1"
    with pytest.raises(LeaseEnded):
        bench.arbiter.lease_of(second.session, "l1")


async def test_a_holder_with_an_endless_command_line_is_named_in_short(bench: Bench) -> None:
    """An error goes into the trailers of a call, of which gRPC takes 8 KiB."""
    holder = FakeSession(1)
    object.__setattr__(
        holder.session.owner, "command_line", "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 4096
    )
    await bench.acquire(holder)
    with pytest.raises(DeviceBusy) as caught:
        await bench.acquire(FakeSession(2))
    assert 0 < len(caught.value.holder_command) <= 256


async def test_draining_does_not_wait_for_ever_for_a_worker_that_cannot_be_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arbiter_module, "STOP_SECONDS", 0.01)
    await bench.acquire(FakeSession(1))
    await asyncio.wait_for(bench.arbiter.drain(0.0), 30)
    assert [lease.state for lease in bench.arbiter.leases()] == [LeaseState.REVOKING]
