"""The broker dies at every single step that it makes on the journal's file, and comes back.

A scripted day of grants, changes and ends runs on an arbiter whose file operations are counted. For
each of them the day is played again and ends there: before the operation, after half of a write, or
after it. Then a new arbiter starts on what is in the folder, and what clients were told must hold.
"""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from furiosa.broker import journal as journal_module
from furiosa.broker.journal import Files, Sync
from furiosa.broker.lease import Terms
from furiosa.common.errors import DeviceBusy
from furiosa.common.views import LeaseView
from support.arbiters import Bench
from support.owners import FakeSession
from support.waiting import until

WHEN = ("before", "half", "after")


class Died(BaseException):
    """Not an error: nothing may handle it."""


class DyingFiles(Files):
    """Dies at operation number `at`; nothing works from then on."""

    def __init__(self, at: int, when: str) -> None:
        self.at, self.when, self.done = at, when, 0
        self.dead = False

    def _step(self, operation: Callable[[], int | None], half: Callable[[], object] | None) -> int:
        if self.dead:
            raise Died
        self.done += 1
        if self.done != self.at:
            return operation() or 0
        self.dead = True
        if self.when == "half" and half is not None:
            half()
        elif self.when == "after":
            operation()
        raise Died

    def open(self, path: Path, flags: int) -> int:
        return self._step(lambda: Files.open(self, path, flags), None)

    def write(self, fd: int, data: bytes) -> int:
        half = data[: len(data) // 2]
        return self._step(lambda: Files.write(self, fd, data), lambda: Files.write(self, fd, half))

    def fsync(self, fd: int) -> None:
        self._step(lambda: Files.fsync(self, fd), None)

    def truncate(self, fd: int, size: int) -> None:
        self._step(lambda: Files.truncate(self, fd, size), None)

    def replace(self, source: Path, target: Path) -> None:
        self._step(lambda: Files.replace(self, source, target), None)


class Clients:
    """What they were told, which is what they may rely on."""

    def __init__(self) -> None:
        self.holds: dict[str, tuple[LeaseView, FakeSession]] = {}
        self.may_hold: set[str] = set()  # asked to end, not told that it has

    def told(self, lease: LeaseView, who: FakeSession) -> None:
        self.holds[lease.id] = (lease, who)


async def a_day(bench: Bench, clients: Clients) -> None:
    """Ten leases of four processes on two cards; each step relies on the ones before."""
    a, b, c = (bench.connect(FakeSession(pid)) for pid in (11, 12, 13))

    async def acquire(
        who: FakeSession,
        spec: str,
        terms: Terms = Terms(),  # noqa: B008  # frozen
    ) -> LeaseView:
        lease = await bench.acquire(who, spec, terms=terms)
        clients.told(lease, who)
        return lease

    async def release(lease: LeaseView) -> None:
        _, who = clients.holds.pop(lease.id)
        clients.may_hold.add(lease.id)
        await bench.arbiter.release(who.session, lease.id)
        clients.may_hold.discard(lease.id)

    first = await acquire(a, "npu:0:0")
    second = await acquire(b, "npu:0:1,npu:1:0-1")
    await release(first)
    third = await acquire(c, "npu:0:0", Terms(time_to_live=50.0))
    bench.arbiter.renew(c.session, third.id, 70.0)
    await release(second)
    await acquire(a, "warboy(2)*1")
    await acquire(b, "npu:0:1", Terms(linger=30.0))
    clients.may_hold.add(third.id)
    del clients.holds[third.id]
    bench.arbiter.session_gone(c.session, "died")
    clients.may_hold.discard(third.id)
    await acquire(b, "npu:0:0")


def play(folder: Path, at: int, when: str, sync: Sync) -> tuple[Clients, int, bool]:
    """The clients' view, the number of operations, and whether the day ended early."""
    files, clients = DyingFiles(at, when), Clients()

    async def run() -> None:
        bench = Bench(folder, cards=2, stops_at_once=True, sync=sync, files=files)
        day = asyncio.create_task(a_day(bench, clients))
        # an fsync runs in a thread, and what it raises goes nowhere: then nobody is told anything
        await until(lambda: day.done() or files.dead)
        if not day.done():
            day.cancel()
            await asyncio.wait((day,))
        if not day.cancelled() and (exc := day.exception()) is not None:
            raise exc

    try:
        asyncio.run(run())
    except (Died, asyncio.CancelledError):
        return clients, files.done, True
    return clients, files.done, files.dead


async def judge(folder: Path, clients: Clients, cause: str) -> None:
    """Start anew: the told leases are held, by their owners only, and nothing is granted twice."""
    bench = Bench(folder, cards=2, stops_at_once=True, ids=itertools.count(100))
    adopted = [record.lease.id for record in bench.found if bench.arbiter.adopt(record, 60.0)]
    try:
        assert set(clients.holds) <= set(adopted), f"{cause}: a lease is lost"
        for lease, who in clients.holds.values():
            for file in lease.device_files:
                with pytest.raises(DeviceBusy):
                    await bench.acquire(FakeSession(99), str(file))
            back = bench.connect(FakeSession(who.pid))
            bench.arbiter.resume(back.session, lease.id, "")
            assert bench.arbiter.book.lease_of(back.session, lease.id).files == lease.device_files
        for lease_id in set(adopted) - set(clients.holds):
            # its client was told nothing yet; no more than one such step can have been underway
            assert len(set(adopted) - set(clients.holds)) <= 1, f"{cause}: {lease_id} is left over"
    finally:
        bench.journal.close()


@pytest.mark.parametrize("compact_at", [10_000_000, 1500], ids=["append", "compact"])
@pytest.mark.parametrize("sync", [Sync.NEVER, Sync.ALWAYS])
def test_what_clients_were_told_survives_death_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Sync, compact_at: int
) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_AT_BYTES", compact_at)
    whole = tmp_path / "whole"
    whole.mkdir()
    _, operations, died = play(whole, at=0, when="before", sync=sync)
    assert not died
    assert operations > 12
    for at, when in itertools.product(range(1, operations + 1), WHEN):
        folder = tmp_path / f"{at}-{when}"
        folder.mkdir()
        clients, _, died = play(folder, at, when, sync)
        assert died
        asyncio.run(judge(folder, clients, f"died {when} operation {at}"))
