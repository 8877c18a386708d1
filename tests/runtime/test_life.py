"""How runners and runtimes begin and end, in both styles."""

import gc
import logging
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.errors import (
    BrokerUnavailable,
    InvalidProgram,
    LeaseEnded,
    UnknownDevice,
    WorkerDied,
)
from furiosa.enf.layout import MAGIC
from furiosa.queuepair import BrokenQueue
from furiosa.runtime import (
    FuriosaRuntimeError,
    FuriosaRuntimeWarning,
    Runtime,
    create_runner,
    sync,
)
from furiosa.runtime._async import loaded_model as async_loaded_model
from furiosa.runtime._core.errors import DeviceBusy, SessionClosed, SessionTerminated
from furiosa.runtime._core.inflight import Run
from furiosa.runtime._deployment import Deployment
from furiosa.runtime._sync import loaded_model as sync_loaded_model
from support.fake_connection import FakeNpu, X
from support.twins import AsyncTwin, Twin

ENF = MAGIC + b"program"


def ones(value: float = 1) -> Any:
    return np.full(X.shape, value, np.float32)


async def works(twin: Twin, runner: Any) -> bool:
    (output,) = await twin.run(runner, ones(3))
    return np.array_equal(output, ones(6))


async def failures(twin: Twin, npu: FakeNpu, runner: Any, happens: Any) -> list[Exception]:
    """What three runs in flight raise when something happens."""
    raised: list[Exception] = []

    async def run() -> None:
        try:
            await twin.run(runner, ones())
        except FuriosaRuntimeError as error:
            raised.append(error)

    npu.hold()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
        runs = runner._loaded._deployments[0].runs
        while len(runs._owned) < 3:
            await anyio.lowlevel.checkpoint()
        happens()
    npu.go.set()
    return raised


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

        def fill(deployment: Deployment, run: Run, arrays: object) -> None:
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
    def submit(deployment: Deployment, run: Run, inputs_at: int) -> None:
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
    runner = await twin.create_runner(ENF)
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
    runner = await twin.create_runner(ENF)
    npu.die()
    with pytest.raises(SessionTerminated, match="no broker at unix:/fake"):
        await twin.run(runner, ones())
    await twin.close(runner)


async def test_a_broker_that_dies_while_the_program_is_loaded_anew(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
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


# --- closing


async def test_close_gives_everything_back_once(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert await twin.close(runner) is True
    assert await twin.close(runner) is True
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1
    with pytest.raises(SessionClosed, match="the session is closed; create a new one"):
        await twin.run(runner, ones())
    with pytest.raises(SessionClosed):
        runner.allocate()
    assert runner.model.input_num == 1


async def test_close_lets_runs_in_flight_finish(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.hold()
    outputs: list[Any] = []

    async def run() -> None:
        outputs.extend(await twin.run(runner, ones()))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
        group.start_soon(twin.close, runner)
        while runner._loaded._session.phase.value != "closed":
            await anyio.lowlevel.checkpoint()
        with pytest.raises(SessionClosed):
            await twin.run(runner, ones())
        assert npu.released == []
        npu.go.set()
    assert np.array_equal(outputs[0], ones(2))
    assert npu.released == ["lease-1"]


async def test_close_does_not_wait_for_ever(
    npu: FakeNpu, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = async_loaded_model if isinstance(twin, AsyncTwin) else sync_loaded_model
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    runner = await twin.create_runner(ENF)
    closed: list[bool] = []

    async def close() -> None:
        closed.append(await twin.close(runner))

    async with anyio.create_task_group() as group:
        raised = await failures(twin, npu, runner, lambda: group.start_soon(close))
    assert closed == [False]
    assert [(type(e), str(e)) for e in raised] == [(SessionClosed, "the session was closed")] * 3
    assert npu.released == ["lease-1"]


def test_leaving_the_context_closes(npu: FakeNpu) -> None:
    with sync.create_runner(ENF) as runner:
        assert np.array_equal(runner.run(ones())[0], ones(2))
    assert npu.released == ["lease-1"]
    with pytest.raises(SessionClosed):
        runner.run(ones())


async def test_leaving_the_asynchronous_context_closes(npu: FakeNpu) -> None:
    async with create_runner(ENF) as runner:
        assert np.array_equal((await runner.run(ones()))[0], ones(2))
    assert npu.released == ["lease-1"]
    async with await create_runner(ENF) as runner:
        await runner.run(ones())
    assert npu.released == ["lease-1"] * 2


def test_leaving_the_context_warns_of_a_timeout(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = sync.create_runner(ENF)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "close", lambda: False)
        with pytest.warns(FuriosaRuntimeWarning, match="closing took longer than 10 s"), runner:
            pass
    runner.close()


async def test_a_runner_that_nobody_holds_hangs_up(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert await works(twin, runner)
    del runner
    gc.collect()
    assert npu.hung_up == 1


# --- failing to begin


async def test_a_busy_device(npu: FakeNpu, twin: Twin) -> None:
    npu.busy = True
    with pytest.raises(DeviceBusy, match="held by pid 4711"):
        await twin.create_runner(ENF)
    assert npu.hung_up == 1


@pytest.mark.parametrize(
    "error", [InvalidProgram("magic", "it is short"), UnknownDevice("npu:9"), LeaseEnded("l", "c")]
)
async def test_a_load_that_fails_leaves_nothing(npu: FakeNpu, twin: Twin, error: Exception) -> None:
    npu.load_error = error  # type: ignore[assignment]  # one of ours
    with pytest.raises(FuriosaRuntimeError) as caught:
        await twin.create_runner(ENF)
    assert caught.value.__cause__ is error
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1


async def test_one_queue_that_cannot_be_opened_closes_the_others(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    npu.no_queue_on = "npu0pe1"
    with pytest.raises(FuriosaRuntimeError, match="the worker of npu0pe1 died"):
        await twin.create_runner(ENF, device="warboy(1)*2")
    assert len(npu.queues_closed) == 1
    assert npu.unloaded == [1]
    assert npu.servers == {}


async def test_no_broker(npu: FakeNpu, twin: Twin) -> None:
    npu.die()
    with pytest.raises(FuriosaRuntimeError, match=r"^no broker at unix:/fake: ") as caught:
        await twin.create_runner(ENF)
    assert isinstance(caught.value.__cause__, BrokerUnavailable)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"device": "warboy"}, FuriosaRuntimeError),
        ({"device": 0}, TypeError),
        ({"worker_num": 0}, ValueError),
        ({"worker_num": "2"}, TypeError),
        ({"batch_size": 2}, FuriosaRuntimeError),
    ],
)
async def test_bad_arguments_are_found_before_anything_is_leased(
    npu: FakeNpu, twin: Twin, options: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        await twin.create_runner(ENF, **options)
    assert type(caught.value) is kind
    assert npu.acquired == []


# --- which devices


async def test_the_devices_asked_for(
    npu: FakeNpu, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await twin.close(await twin.create_runner(ENF))
    monkeypatch.setenv("FURIOSA_DEVICES", "npu0pe0-1")
    await twin.close(await twin.create_runner(ENF))
    await twin.close(await twin.create_runner(ENF, device="npu:1"))
    assert npu.acquired == ["warboy(2)*1", "npu:0:0-1", "npu:1"]


async def test_the_old_variable_is_deprecated_in_the_log(
    npu: FakeNpu, twin: Twin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NPU_DEVNAME", "npu0pe0-1")
    await twin.close(await twin.create_runner(ENF))
    assert npu.acquired == ["npu:0:0-1"]
    assert [(r.levelno, r.getMessage()) for r in caplog.records if "furiosa" in r.name] == [
        (logging.WARNING, "NPU_DEVNAME will be deprecated. Use FURIOSA_DEVICES instead.")
    ]


# --- runtimes


async def test_runners_of_a_runtime_share_its_lease(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime("npu:0:0-1")
    first = await twin.runner_of(runtime, ENF)
    second = await twin.runner_of(runtime, ENF)
    assert npu.acquired == ["npu:0:0-1"]
    assert await twin.close(first)
    assert npu.unloaded == [1]
    assert npu.released == []
    assert await works(twin, second)
    assert await twin.close(runtime)
    assert npu.released == ["lease-1"]
    with pytest.raises(SessionClosed):
        await twin.run(second, ones())
    with pytest.raises(SessionClosed, match="the runtime is closed; create a new one"):
        await twin.runner_of(runtime, ENF)
    assert await twin.close(runtime)
    assert await twin.close(second)


async def test_all_runners_of_a_runtime_hear_of_a_death(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    first = await twin.runner_of(runtime, ENF)
    second = await twin.runner_of(runtime, ENF)
    npu.hold()
    raised: list[Exception] = []

    async def run(runner: Any) -> None:
        try:
            await twin.run(runner, ones())
        except FuriosaRuntimeError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run, first)
        group.start_soon(run, second)
        await anyio.to_thread.run_sync(npu.wait_until_taken, 2)
        npu.kill_worker()
    npu.go.set()
    assert len(raised) == 2
    assert await works(twin, first)
    assert await works(twin, second)
    await twin.close(runtime)


async def test_closing_a_runtime_refuses_calls_on_all_its_runners_at_once(
    npu: FakeNpu, twin: Twin
) -> None:
    runtime = twin.runtime()
    runners = [await twin.runner_of(runtime, ENF) for _ in range(3)]
    npu.hold()
    async with anyio.create_task_group() as group:
        for runner in runners:
            group.start_soon(twin.run, runner, ones())
        await anyio.to_thread.run_sync(npu.wait_until_taken, 3)
        group.start_soon(twin.close, runtime)
        while {r._loaded._session.phase.value for r in runners} != {"closed"}:
            await anyio.lowlevel.checkpoint()
        npu.go.set()
    assert npu.released == ["lease-1"]


async def test_a_forgotten_runner_is_unloaded_with_the_next_load(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    forgotten = await twin.runner_of(runtime, ENF)
    queues = set(npu.servers)
    del forgotten
    gc.collect()
    assert npu.hung_up == 0
    kept = await twin.runner_of(runtime, ENF)
    assert npu.unloaded == [1]
    assert set(npu.queues_closed) == queues
    assert await works(twin, kept)
    await twin.close(runtime)


async def test_a_runtime_that_was_never_used_closes(npu: FakeNpu, twin: Twin) -> None:
    assert await twin.close(twin.runtime())
    assert npu.acquired == npu.released == []


def test_entering_a_runtime_leases(npu: FakeNpu) -> None:
    with sync.Runtime() as runtime:
        assert npu.acquired == ["warboy(2)*1"]
        with runtime.create_runner(ENF) as runner:
            assert np.array_equal(runner.run(ones())[0], ones(2))
    assert npu.released == ["lease-1"]


async def test_entering_an_asynchronous_runtime_leases(npu: FakeNpu) -> None:
    async with Runtime() as runtime:
        assert npu.acquired == ["warboy(2)*1"]
        async with runtime.create_runner(ENF) as runner:
            assert np.array_equal((await runner.run(ones()))[0], ones(2))
    assert npu.released == ["lease-1"]
