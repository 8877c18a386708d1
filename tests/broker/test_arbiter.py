"""The arbiter with real futures and a real journal; workers are a list of who must stop."""

import asyncio
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.broker import arbiter as arbiter_module
from furiosa.broker.devices import Holder
from furiosa.broker.journal import Journal
from furiosa.broker.lease import Terms
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
from furiosa.common.views import LeaseEndedNotice, LeaseRecalledNotice, LeaseState, WaiterView
from support.arbiters import BOOT, Bench
from support.owners import FakeSession
from support.waiting import until


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


async def started(task: "asyncio.Future[Any]") -> None:
    """Let a task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()


async def test_a_lease_tells_who_holds_what_since_when(bench: Bench) -> None:
    lease = await bench.acquire(FakeSession(7), "npu:0:0-1")
    assert (lease.owner.pid, lease.owner.command_line) == (7, "program 7")
    assert lease.device_files == (DeviceFile.parse("npu0pe0-1"),)
    assert lease.state is LeaseState.GRANTED
    assert bench.arbiter.book.leases() == (lease,)


async def test_busy_names_who_has_the_file_without_a_lease_as_long_as_he_has_it(
    bench: Bench,
) -> None:
    pe1 = DeviceFile.parse("npu0pe1")
    bench.arbiter.set_foreign({pe1: (Holder(9, 0, "cat /dev/npu0pe1", pe1),)})
    with pytest.raises(DeviceBusy) as caught:
        await bench.acquire(FakeSession(8), "npu:0:0-1")
    error = caught.value
    assert (error.holder_device, error.holder_pid) == ("npu0pe1", 9)
    assert error.holder_command == "cat /dev/npu0pe1"
    waiting = asyncio.ensure_future(bench.acquire(FakeSession(8), "npu:0:1", 60.0))
    await started(waiting)
    (waiter,) = bench.arbiter.queue()
    assert waiter.reason == "npu0pe1 is open behind the broker's back by pid 9"
    bench.arbiter.set_foreign({})
    assert (await waiting).device_files == (pe1,)


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
    task = asyncio.ensure_future(bench.arbiter.release(who.session, lease.id))
    await started(task)
    assert bench.arbiter.book.leases()[0].state is LeaseState.REVOKING
    bench.workers_stopped(lease.id)
    await task
    assert bench.arbiter.book.leases() == ()
    assert who.notices == [], "the answer says it"


async def test_only_the_owning_process_may_release_and_only_once(bench: Bench) -> None:
    owner, same_process, stranger = FakeSession(7), FakeSession(7), FakeSession(8)
    lease = await bench.acquire(owner)
    with pytest.raises(NotLeaseOwner, match="pid 8"):
        await bench.arbiter.release(stranger.session, lease.id)
    with pytest.raises(UnknownLease):
        await bench.arbiter.release(owner.session, "nope")
    task = asyncio.ensure_future(bench.arbiter.release(same_process.session, lease.id))
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
    bench.arbiter.session_gone(dead.session, "its process died")
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
    bench.arbiter.session_gone(holder.session, "")
    bench.workers_stopped(lease.id)
    assert bench.arbiter.book.leases() == ()


async def test_a_lease_granted_in_the_moment_of_cancellation_is_given_back(bench: Bench) -> None:
    holder = FakeSession(7)
    lease = await bench.acquire(holder)
    waiting = asyncio.create_task(bench.acquire(FakeSession(8), wait=math.inf))
    await started(waiting)
    bench.arbiter.session_gone(holder.session, "")
    bench.workers_stopped(lease.id)  # grants to the waiter, which has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (granted,) = bench.stopping
    bench.workers_stopped(granted)
    assert bench.arbiter.book.leases() == ()


async def test_draining_gives_grace_then_revokes(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who)
    drain = asyncio.create_task(bench.arbiter.drain(grace=0.0))
    await until(lambda: lease.id in bench.stopping)
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
    await started(drain)
    (notice,) = who.notices
    assert notice == LeaseRecalledNotice(
        lease.id, "the broker is shutting down", 3600, LeaseState.RECALLED
    )
    release = asyncio.ensure_future(bench.arbiter.release(who.session, lease.id))
    await started(release)
    bench.workers_stopped(lease.id)
    await release
    await drain
    assert who.notices == [notice]


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
    assert bench.arbiter.book.leases() == ()
    assert (await bench.acquire(FakeSession())).state is LeaseState.GRANTED


async def test_a_grant_stands_in_the_journal_before_anybody_is_told(bench: Bench) -> None:
    lease = await bench.acquire(FakeSession())
    assert lease.id in bench.path.read_text()
    bench.journal.close()
    (found,) = Journal(bench.path, boot=BOOT).recover()
    assert found.lease.id == lease.id


async def test_watchers_see_every_change(bench: Bench) -> None:
    who = FakeSession()
    seen = [await bench.changes.beyond(0)]
    lease = await bench.acquire(who)
    seen.append(await bench.changes.beyond(0))
    bench.arbiter.session_gone(who.session, "")
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
    bench.arbiter.session_gone(first.session, "gone")
    bench.workers_stopped(lease.id)
    bench.arbiter.session_gone(second.session, "gone")
    bench.workers_stopped("l1")
    assert (await waiting).id == "l1"
    with pytest.raises(LeaseEnded):
        bench.arbiter.book.lease_of(second.session, "l1")


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
    assert [lease.state for lease in bench.arbiter.book.leases()] == [LeaseState.REVOKING]


async def test_a_lease_that_is_not_renewed_is_told_then_taken(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who, terms=Terms(time_to_live=30.0))
    bench.pass_time(29.0)
    bench.arbiter.renew(who.session, lease.id, None)
    bench.pass_time(29.0)
    assert bench.arbiter.book.leases()[0].state is LeaseState.GRANTED
    bench.pass_time(1.0)
    cause = "its time to live is over"
    assert who.notices == [LeaseRecalledNotice(lease.id, cause, 5.0, LeaseState.EXPIRING)]
    bench.arbiter.renew(who.session, lease.id, 10.0)
    assert bench.arbiter.book.leases()[0].state is LeaseState.GRANTED
    bench.pass_time(10.0)
    bench.pass_time(5.0)
    assert who.notices[-1] == LeaseEndedNotice(lease.id, cause)
    bench.workers_stopped(lease.id)
    assert bench.arbiter.book.leases() == ()


async def test_a_revoked_lease_cannot_be_renewed_and_ends_after_its_grace(bench: Bench) -> None:
    who = FakeSession()
    lease = await bench.acquire(who, terms=Terms(time_to_live=30.0))
    assert bench.arbiter.revoke(lease.id, "maintenance", 2.0).state is LeaseState.RECALLED
    with pytest.raises(LeaseEnded, match="maintenance"):
        bench.arbiter.renew(who.session, lease.id, None)
    assert bench.arbiter.book.lease_of(who.session, lease.id).id == lease.id, "it may still be used"
    bench.pass_time(2.0)
    with pytest.raises(LeaseEnded, match="maintenance"):
        bench.arbiter.book.lease_of(who.session, lease.id)


async def test_a_lingering_lease_is_resumed_by_its_secret_from_another_process(
    bench: Bench,
) -> None:
    old, new, thief = (bench.connect(FakeSession(pid)) for pid in (7, 8, 9))
    lease_id, secret = await bench.acquire_secret(old, "npu:0:0", Terms(linger=60.0))
    bench.arbiter.session_gone(old.session, "its process hung up")
    (view,) = bench.arbiter.book.leases()
    assert (view.state, view.owner.pid) == (LeaseState.DETACHED, 7)
    assert bench.detached == [lease_id], "its queues are closed, its workers go on"
    assert bench.stopping == {}
    with pytest.raises(NotLeaseOwner):
        bench.arbiter.resume(thief.session, lease_id, secret[:-1] + "x")
    resumed = bench.arbiter.resume(new.session, lease_id, secret)
    assert (resumed.state, resumed.owner.pid) == (LeaseState.GRANTED, 8)
    with pytest.raises(NotLeaseOwner):
        bench.arbiter.book.lease_of(old.session, lease_id)
    bench.pass_time(100.0)
    assert bench.arbiter.book.leases()[0].state is LeaseState.GRANTED


async def test_a_lingering_lease_that_nobody_resumes_ends(bench: Bench) -> None:
    who = bench.connect(FakeSession())
    await bench.acquire_secret(who, "npu:0:0", Terms(linger=60.0))
    bench.arbiter.session_gone(who.session, "its process hung up")
    bench.pass_time(60.0)
    assert list(bench.stopping) == ["l0"]


async def test_the_same_process_gets_its_detached_lease_back_without_a_secret(
    bench: Bench,
) -> None:
    first = bench.connect(FakeSession(7))
    lease_id, _ = await bench.acquire_secret(first, "npu:0:0", Terms(linger=60.0))
    bench.arbiter.session_gone(first.session, "hung up")
    again = bench.connect(FakeSession(7))
    bench.arbiter.resume(again.session, lease_id, "")
    assert bench.arbiter.book.lease_of(again.session, lease_id).holder == again.session.id


async def test_a_waiter_is_told_its_place_and_when_that_changes(bench: Bench) -> None:
    holder, first = FakeSession(1), FakeSession(2)
    lease = await bench.acquire(holder)
    ahead = asyncio.create_task(bench.acquire(first, wait=math.inf))
    await started(ahead)
    told: list[WaiterView] = []
    mine = asyncio.create_task(bench.wait_in_line(FakeSession(3), told.append))
    await started(mine)
    await asyncio.sleep(0)
    (view,) = told
    assert (view.position, view.owner.pid) == (2, 3)
    assert view.reason == f"npu0pe0 is held by lease {lease.id}"
    assert [waiter.position for waiter in bench.arbiter.queue()] == [1, 2]
    for task in (ahead, mine):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert bench.arbiter.queue() == ()


async def test_the_important_preempts_the_unimportant_in_two_phases(bench: Bench) -> None:
    low = FakeSession(1)
    lease = await bench.acquire(low, priority=0)
    high = bench.acquire(FakeSession(2), wait=math.inf, tenant="prod", priority=9, may_preempt=True)
    waiting = asyncio.create_task(high)
    await started(waiting)
    (notice,) = low.notices
    assert notice == LeaseRecalledNotice(
        lease.id, "preempted by tenant prod", 5.0, LeaseState.RECALLED
    )
    bench.pass_time(5.0)
    bench.workers_stopped(lease.id)
    assert (await waiting).owner.pid == 2


async def test_a_broker_adopts_the_leases_of_the_living_and_excludes_others(
    bench: Bench, tmp_path: Path
) -> None:
    who = FakeSession(7)
    lease = await bench.acquire(who, "npu:0:0")
    bench.journal.close()
    after = Bench(tmp_path)
    (record,) = after.found
    assert after.arbiter.adopt(record, grace=60.0)
    assert not after.arbiter.adopt(record, grace=60.0), "never twice"
    with pytest.raises(DeviceBusy) as caught:
        await after.acquire(FakeSession(8), "npu:0:0-1")
    assert caught.value.holder_pid == 7
    back = after.connect(FakeSession(7))
    assert after.arbiter.resume(back.session, lease.id, "").state is LeaseState.GRANTED
    after.journal.close()


async def test_a_process_that_asks_anew_after_a_restart_gives_up_what_it_had(
    bench: Bench, tmp_path: Path
) -> None:
    who = FakeSession(7)
    await bench.acquire(who, "npu:0:0")
    await bench.acquire(who, "npu:0:1")
    bench.journal.close()
    after = Bench(tmp_path, stops_at_once=True, ids=itertools.count(10))
    for record in after.found:
        after.arbiter.adopt(record, grace=60.0)
    back = after.connect(FakeSession(7))
    assert (await after.acquire(back, "npu:0:0")).id == "l10"
    assert {view.id for view in after.arbiter.book.leases()} == {"l1", "l10"}, (
        "the other may be resumed"
    )
    after.journal.close()


async def test_an_adopted_lease_ends_when_its_owner_dies_or_stays_away(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.acquire(FakeSession(7), "npu:0:0")
    await bench.acquire(FakeSession(8), "npu:0:1")
    bench.journal.close()
    after = Bench(tmp_path)
    for record in after.found:
        after.arbiter.adopt(record, grace=60.0)
    after.arbiter.process_died(7)
    assert list(after.stopping) == ["l0"]
    after.pass_time(60.0)
    assert list(after.stopping) == ["l0", "l1"]
    after.journal.close()


async def test_other_sessions_of_the_process_hear_of_a_release(bench: Bench) -> None:
    holder, sibling = bench.connect(FakeSession(7)), bench.connect(FakeSession(7))
    lease = await bench.acquire(holder)
    released = bench.arbiter.release(sibling.session, lease.id)
    bench.workers_stopped(lease.id)
    await released
    assert holder.notices == [LeaseEndedNotice(lease.id, "released by its owner")]
