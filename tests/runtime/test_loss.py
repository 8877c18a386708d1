"""A worker, the lease or the broker is lost, in both styles."""

from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.errors import (
    BrokerUnavailable,
    LeaseEnded,
    WorkerDied,
)
from furiosa.queuepair import BrokenQueue
from furiosa.runtime import (
    FuriosaRuntimeError,
    sync,
)
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from furiosa.runtime._core.inflight import Run
from furiosa.runtime._deployment import Deployment
from support.fake_connection import FakeNpu
from support.runners import ENF, failures, ones, works
from support.twins import Twin

# --- a worker dies


async def test_runs_in_flight_name_the_worker_that_died_and_the_next_one_works(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
    raised = await failures(twin, npu, runner, npu.kill_worker)
    assert [str(error) for error in raised] == [
        "the worker of npu0pe0-1 died (killed by signal 9); the lease is still held"
    ] * 3
    assert all(isinstance(error.__cause__, WorkerDied) for error in raised)
    assert len({id(error) for error in raised}) == 3
    assert await works(twin, runner)
    assert len(npu.loaded) == 2
    await twin.close(runner)


async def test_a_death_between_runs_goes_unnoticed(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert await works(twin, runner)
    npu.kill_worker()
    assert await works(twin, runner)
    assert len(npu.loaded) == 2
    await twin.close(runner)


async def test_one_of_many_loads_the_program_anew(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.kill_worker()
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(twin.run, runner, ones())
    assert len(npu.loaded) == 2
    await twin.close(runner)


def test_a_death_that_another_thread_is_passing_on_is_news_until_that_is_done(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a run would begin on a worker that is known to be dead."""
    with sync.create_runner(ENF) as runner:
        loaded = runner._loaded
        quiet: list[bool] = []
        lose = loaded.lose

        def lose_slowly(loss: Any) -> None:
            quiet.append(loaded._holding.is_quiet())
            lose(loss)

        monkeypatch.setattr(loaded, "lose", lose_slowly)
        npu.kill_worker()
        runner.run(ones())
        assert quiet == [False]


async def test_both_workers_die_at_once(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    runner = await twin.create_runner(ENF, device="warboy(1)*2")

    def die() -> None:
        npu.kill_worker("npu0pe0")
        npu.kill_worker("npu0pe1")

    assert len(await failures(twin, npu, runner, die)) == 3
    assert await works(twin, runner)
    await twin.close(runner)


async def test_what_the_other_worker_still_has_is_freed(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    runner = await twin.create_runner(ENF, device="warboy(1)*2")
    first_queues = set(npu.servers)
    npu.kill_worker("npu0pe0")
    assert await works(twin, runner)
    assert set(npu.queues_closed) == first_queues
    assert len(npu.servers) == 2
    await twin.close(runner)


async def test_a_worker_that_dies_while_the_program_is_loaded_costs_another_load(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
    deaths = iter([npu.kill_worker])
    npu.before_load_answers = lambda: next(deaths, lambda: None)()
    npu.kill_worker()
    assert await works(twin, runner)
    assert len(npu.loaded) == 3
    await twin.close(runner)


async def test_a_program_that_kills_every_worker_is_given_up(npu: FakeNpu, twin: Twin) -> None:
    npu.before_load_answers = npu.kill_worker
    with pytest.raises(FuriosaRuntimeError, match="the worker of npu0pe0-1 died") as caught:
        await twin.create_runner(ENF)
    assert isinstance(caught.value.__cause__, WorkerDied)
    assert len(npu.loaded) == 3
    assert npu.servers == {}
    assert npu.hung_up == 1


async def test_a_worker_that_breaks_its_queue_is_named_and_replaced(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
    npu.answer_to = lambda number: number + 1000
    with pytest.raises(FuriosaRuntimeError, match=r"^npu0pe0-1: its queue broke: ") as caught:
        await twin.run(runner, ones())
    assert isinstance(caught.value.__cause__, BrokenQueue)
    npu.answer_to = lambda number: number
    assert await works(twin, runner)
    assert len(npu.loaded) == 2
    await twin.close(runner)


async def test_a_worker_that_lets_go_of_its_queue_is_replaced(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    raised = await failures(twin, npu, runner, npu.let_go)
    text = "npu0pe0-1: its queue broke: the worker let go of this queue"
    assert [str(error) for error in raised] == [text] * 3
    assert await works(twin, runner)
    await twin.close(runner)


def test_a_worker_that_dies_while_inputs_are_copied(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sync.create_runner(ENF) as runner:

        def fill(deployment: Deployment[Any], run: Run, arrays: object) -> None:
            npu.kill_worker()
            runner._loaded._holding.listen()

        with monkeypatch.context() as patch:
            patch.setattr(Deployment, "fill", fill)
            with pytest.raises(FuriosaRuntimeError, match="the worker of npu0pe0-1 died"):
                runner.run(ones())
        assert npu.seen == []


def test_a_queue_that_takes_no_more_runs_is_replaced(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(deployment: Deployment[Any], run: Run, inputs_at: int) -> None:
        raise FuriosaRuntimeError("npu0pe0-1: its queue broke")

    with sync.create_runner(ENF) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(Deployment, "submit", submit)
            with pytest.raises(FuriosaRuntimeError, match="npu0pe0-1: its queue broke"):
                runner.run(ones())
        assert np.array_equal(runner.run(ones())[0], ones(2))
    assert npu.loaded == [ENF] * 2


# --- the lease or the broker is gone


async def test_the_end_of_the_lease_ends_everything_by_name(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    raised = await failures(twin, npu, runner, npu.end_lease)
    text = "the session was terminated: lease lease-1 has ended: revoked by an administrator"
    assert [(type(error), str(error)) for error in raised] == [(SessionTerminated, text)] * 3
    assert all(isinstance(error.__cause__, LeaseEnded) for error in raised)
    with pytest.raises(SessionTerminated, match=text):
        await twin.run(runner, ones())
    with pytest.raises(SessionTerminated, match=text):
        runner.allocate()
    assert await twin.close(runner)
    with pytest.raises(SessionClosed):
        await twin.run(runner, ones())


async def test_the_end_of_the_broker_ends_everything_by_name(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, on_broker_restart="raise")
    raised = await failures(twin, npu, runner, npu.die)
    text = "the session was terminated: no broker at unix:/fake: it closed the connection"
    assert [(type(error), str(error)) for error in raised] == [(SessionTerminated, text)] * 3
    assert all(isinstance(error.__cause__, BrokerUnavailable) for error in raised)
    with pytest.raises(SessionTerminated, match=text):
        await twin.run(runner, ones())
    assert await twin.close(runner)
    assert npu.hung_up == 1


async def test_a_broker_that_died_between_runs_is_found_out_by_the_next(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF, on_broker_restart="raise")
    npu.die()
    with pytest.raises(SessionTerminated, match="no broker at unix:/fake"):
        await twin.run(runner, ones())
    await twin.close(runner)


async def test_a_broker_that_dies_while_the_program_is_loaded_anew(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF, on_broker_restart="raise")
    npu.kill_worker()
    npu.before_load_answers = npu.die
    for _ in range(2):
        with pytest.raises(SessionTerminated, match="the session was terminated: no broker at"):
            await twin.run(runner, ones())
    await twin.close(runner)


async def test_a_lease_that_ends_while_the_program_is_loaded_anew(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.kill_worker()
    npu.before_load_answers = npu.end_lease
    with pytest.raises(SessionTerminated):
        await twin.run(runner, ones())
    await twin.close(runner)
