"""How runners and runtimes end and what they share, in both styles."""

import gc
import weakref
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.runtime import (
    FuriosaRuntimeError,
    FuriosaRuntimeWarning,
    Runtime,
    create_runner,
    sync,
)
from furiosa.runtime._async import loaded_model as async_loaded_model
from furiosa.runtime._core.errors import SessionClosed
from furiosa.runtime._sync import loaded_model as sync_loaded_model
from support.fake_connection import FakeNpu
from support.runners import ENF, failures, ones, works
from support.twins import AsyncTwin, Twin

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
    while not npu.hung_up:  # the thread of the last call may hold it a little longer
        gc.collect()
        await anyio.lowlevel.checkpoint()


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
    reference = weakref.ref(forgotten)
    del forgotten
    while reference():  # as above
        gc.collect()
        await anyio.lowlevel.checkpoint()
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
