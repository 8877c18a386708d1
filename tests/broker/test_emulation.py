"""Faults in real workers, which run engines that do as they are told."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from furiosa.broker.emulation import Emulation
from furiosa.broker.platform import Faults
from furiosa.broker.workers.pool import Errors
from furiosa.common.errors import UnknownDevice
from furiosa.common.fault_wire import fault_from_wire, fault_to_wire
from furiosa.common.faults import Dead, DmaError, Fault, FaultView, Hung, SlowDma
from furiosa.common.names import DeviceFile
from furiosa.queuepair import ClientQueue, CompletionStatus, Submission
from furiosa.queuepair.layout import PAGE
from support import engines
from support.waiting import until
from support.workers import PE0, PE1, Bench, a_pool, fake_engines, run

OK, DMA_ERROR = CompletionStatus.OK, CompletionStatus.DMA_ERROR
CARD, OTHER = DeviceFile.parse("npu0"), DeviceFile.parse("npu1")


@dataclass
class Cards:
    bench: Bench
    emulation: Emulation
    shown: list[Faults]

    async def set(self, file: DeviceFile, fault: Fault, seconds: float | None = None) -> FaultView:
        return await self.emulation.set(FaultView(file, fault), seconds)

    async def ready(self, lease: str = "a", file: DeviceFile = PE0) -> "Runs":
        program = await self.bench.load(lease, engines.INVERT, file)
        return Runs(await self.bench.queue(lease, file), program.id)


@dataclass
class Runs:
    queue: ClientQueue
    program: int

    def start(self) -> None:
        self.queue.submit(Submission(1, self.program, 0, 64))

    async def status(self) -> CompletionStatus:
        return (await run(self.queue, Submission(1, self.program, 0, 64))).status

    async def statuses(self, count: int) -> list[CompletionStatus]:
        return [await self.status() for _ in range(count)]


@pytest.fixture
async def cards(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cards]:
    shown: list[Faults] = []

    async def show() -> None:
        shown.append(emulation.faults)

    async with a_pool(**fake_engines(monkeypatch), run_timeout=1.0) as bench:
        emulation = Emulation(bench.pool, {CARD, PE0, PE1, OTHER}, show)
        yield Cards(bench, emulation, shown)


async def test_a_hung_core_is_found_named_and_counted_and_hangs_until_it_is_cleared(
    cards: Cards,
) -> None:
    await cards.set(PE0, Hung())
    deaths = cards.bench.deaths
    for lease in ("a", "b"):  # the worker that is there, and one that comes later
        other = await cards.ready("o" + lease, PE1)
        runs = await cards.ready(lease)
        runs.start()
        assert await deaths.get() == (lease, PE0, "one run took longer than 1 s")
        assert await other.status() is OK, "the other core is well"
        await cards.bench.release("o" + lease)
        runs.queue.close()
        other.queue.close()
    assert cards.bench.pool.errors()[PE0] == Errors(device=2)
    assert cards.bench.pool.errors()[PE1] == Errors()
    assert await cards.emulation.clear(None) == 1
    runs = await cards.ready("c")
    assert await runs.statuses(3) == [OK] * 3
    assert deaths.empty()
    runs.queue.close()


async def test_a_core_hangs_from_the_next_run_on_and_uses_no_cpu(cards: Cards) -> None:
    runs = await cards.ready()
    assert await runs.status() is OK
    await cards.set(CARD, Hung())
    pid = cards.bench.pid()
    runs.start()

    def sleeps() -> bool:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"

    counters = cards.bench.pool.counters
    await until(lambda: (found := counters(PE0)) is not None and found.task_ns > 50_000_000)
    assert sleeps()
    assert (await cards.bench.deaths.get())[1] is PE0
    runs.queue.close()


async def test_so_many_runs_fail_whichever_worker_makes_them(cards: Cards) -> None:
    runs = await cards.ready()
    await cards.set(CARD, DmaError(count=3))
    assert await runs.statuses(2) == [DMA_ERROR] * 2
    os.kill(cards.bench.pid(), signal.SIGKILL)
    await cards.bench.deaths.get()
    runs.queue.close()
    runs = await cards.ready()
    assert await runs.statuses(3) == [DMA_ERROR, OK, OK]
    await cards.set(OTHER, Hung())  # a change elsewhere is none here
    assert await runs.statuses(2) == [OK, OK]
    assert cards.bench.pool.errors()[PE0] == Errors(device=1, fetch=3)
    await cards.set(CARD, DmaError(count=3))
    assert await runs.statuses(4) == [DMA_ERROR] * 3 + [OK], "the same once more begins anew"
    runs.queue.close()


async def test_a_fault_ends_by_itself_and_one_that_replaced_it_does_not(cards: Cards) -> None:
    await cards.set(CARD, Dead(), 0.01)
    stays = await cards.set(CARD, Dead(), 3600)
    ends = await cards.set(PE0, SlowDma(1_000_000), 0.02)
    assert ends.ends_at is not None
    assert cards.shown[-1] == Faults((stays, ends))
    await until(lambda: ends not in cards.emulation.faults.standing)
    assert cards.emulation.faults == Faults((stays,))
    assert await cards.emulation.clear(1) == 0
    assert await cards.emulation.clear(0) == 1
    assert cards.shown[-1] == Faults()


async def test_a_time_beyond_all_calendars_is_a_long_one(cards: Cards) -> None:
    view = await cards.set(CARD, Dead(), 1e18)
    assert fault_from_wire(fault_to_wire(view)).fault == Dead()


async def test_what_is_not_there_cannot_fail(cards: Cards) -> None:
    with pytest.raises(UnknownDevice, match="npu0pe7"):
        await cards.set(DeviceFile.parse("npu0pe7"), Hung())
    assert cards.emulation.faults == Faults()


async def test_a_broken_queue_counts_once_and_outlives_its_worker(cards: Cards) -> None:
    runs = await cards.ready()
    runs.queue._memory[PAGE : PAGE + 8] = b"\xff" * 8
    os.eventfd_write(runs.queue._submissions, 1)
    errors = cards.bench.pool.errors
    await until(lambda: errors()[PE0] == Errors(discarded=1))
    await cards.bench.release("a")
    assert errors()[PE0] == Errors(discarded=1)
    runs.queue.close()
