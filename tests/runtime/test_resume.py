"""The broker goes, and comes back or does not, in both styles."""

import logging
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.causes import REVOKED, SHUTTING_DOWN
from furiosa.common.errors import (
    BrokerDraining,
    BrokerUnavailable,
    DeviceBusy,
    FuriosaError,
    LeaseEnded,
    NotLeaseOwner,
    RateLimited,
    UnknownLease,
)
from furiosa.common.views import LeaseState
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._core.errors import SessionTerminated
from support.fake_connection import FakeNpu, X
from support.runners import ENF, GONE, failures, ones, waits, works
from support.twins import Twin

UNKNOWN = UnknownLease("lease-1")


# --- the broker comes back


async def test_runs_in_flight_say_what_happened_and_the_next_one_works(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
    raised = await failures(twin, npu, runner, npu.restart)
    text = f"the broker went away, and it is not known whether this inference was run: {GONE}"
    assert [(type(error), str(error)) for error in raised] == [(FuriosaRuntimeError, text)] * 3
    assert all(isinstance(error.__cause__, BrokerUnavailable) for error in raised)
    assert len({id(error) for error in raised}) == 3
    assert len(npu.seen) <= 2, "nothing was run again"
    assert await works(twin, runner)
    assert npu.resumed == ["lease-1"]
    assert len(npu.acquired) == 1
    assert len(npu.loaded) == 2
    await twin.close(runner)
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 2


async def test_a_restart_between_runs_goes_unnoticed(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert await works(twin, runner)
    for _ in range(3):
        npu.restart()
        assert await works(twin, runner)
    assert npu.resumed == ["lease-1"] * 3
    assert runner.stats().failed == 0
    await twin.close(runner)


async def test_it_is_said_in_the_log(
    npu: FakeNpu, twin: Twin, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "furiosa.runtime"):
        runner = await twin.create_runner(ENF)
        npu.restart()
        assert await works(twin, runner)
    began, went, came = caplog.records
    assert began.levelno == logging.INFO
    assert began.getMessage().startswith("lease lease-1 of npu0pe0-1 was granted after 0.")
    assert went.levelno == logging.WARNING
    assert went.getMessage() == f"the broker has gone; lease lease-1 will be resumed: {GONE}"
    assert came.levelno == logging.INFO
    assert came.getMessage().startswith("lease lease-1 of npu0pe0-1 was resumed after 0.")
    await twin.close(runner)


async def test_one_of_many_callers_resumes_the_lease_and_loads_the_program(
    npu: FakeNpu, twin: Twin
) -> None:
    runner = await twin.create_runner(ENF)
    npu.die()
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(twin.run, runner, ones())
        await waits(runner._loaded)
        npu.come_back()
    assert npu.resumed == ["lease-1"]
    assert len(npu.loaded) == 2
    await twin.close(runner)


async def test_all_models_of_a_runtime_go_on_with_one_lease(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    first, second = [await twin.runner_of(runtime, ENF) for _ in range(2)]
    npu.restart()
    assert await works(twin, second)
    assert await works(twin, first)
    third = await twin.runner_of(runtime, ENF)
    assert await works(twin, third)
    assert npu.resumed == ["lease-1"]
    assert npu.unloaded == []
    assert npu.programs == {1, 3, 5}
    await twin.close(runtime)


async def test_what_the_broker_before_had_loaded_is_not_unloaded_from_the_next(
    npu: FakeNpu, twin: Twin
) -> None:
    runtime = twin.runtime()
    forgotten = await twin.runner_of(runtime, ENF)
    kept = await twin.runner_of(runtime, ENF)
    npu.kill_worker()  # what is left of it is to be unloaded with the next load
    kept._loaded._holding.listen()
    npu.restart()
    del forgotten
    assert await works(twin, kept)
    assert npu.unloaded == []
    assert npu.queues_closed == []
    await twin.close(runtime)


async def test_arrays_of_the_time_before_are_good(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    (inputs,) = runner.allocate()
    inputs[...] = 3
    (outputs,) = await twin.run(runner, [inputs])
    npu.restart()
    assert np.array_equal((await twin.run(runner, [inputs]))[0], outputs)
    assert np.array_equal(outputs, ones(6))
    await twin.close(runner)


async def test_large_outputs_of_the_time_before_stay(npu: FakeNpu, twin: Twin) -> None:
    large = type(X)("x", X.dtype, (1, 1, 256, 256))
    npu.inputs = npu.outputs = (large,)
    runner = await twin.create_runner(ENF)
    given = np.full(large.shape, 2, np.float32)
    (before,) = await twin.run(runner, given)
    assert not before.flags.owndata
    npu.restart()
    (after,) = await twin.run(runner, given * 2)
    assert np.array_equal(before, given * 2)
    assert np.array_equal(after, given * 4)
    await twin.close(runner)


async def test_a_broker_that_is_not_ready_yet_is_asked_again(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.restart()
    errors: list[FuriosaError] = [BrokerDraining(), RateLimited("t", 5)]

    def refuse() -> None:
        npu.resume_error = errors.pop() if errors else None

    npu.before_resume_answers = refuse
    assert await works(twin, runner)
    assert npu.resumed == ["lease-1"] * 3
    await twin.close(runner)


async def test_a_broker_that_dies_while_the_lease_is_resumed(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.restart()
    deaths = iter([npu.restart, npu.restart])
    npu.before_resume_answers = lambda: next(deaths, lambda: None)()
    assert await works(twin, runner)
    assert len(npu.resumed) == 3
    await twin.close(runner)


async def test_a_broker_that_dies_while_the_program_is_loaded(npu: FakeNpu, twin: Twin) -> None:
    deaths = iter([npu.restart, npu.restart])
    npu.before_load_answers = lambda: next(deaths, lambda: None)()
    runner = await twin.create_runner(ENF)
    assert await works(twin, runner)
    assert len(npu.loaded) == 3
    await twin.close(runner)


async def test_a_program_that_ends_every_broker_is_given_up(npu: FakeNpu, twin: Twin) -> None:
    npu.before_load_answers = npu.restart
    with pytest.raises(FuriosaRuntimeError, match=f"^{GONE}$"):
        await twin.create_runner(ENF)
    assert len(npu.loaded) == 3


async def test_a_broker_that_does_not_answer_is_left(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.kill_worker()

    def silent() -> None:
        npu.before_load_answers = lambda: None
        raise BrokerUnavailable("unix:/fake", "no answer within 90 s")

    npu.before_load_answers = silent
    assert await works(twin, runner)
    assert npu.resumed == ["lease-1"]
    assert npu.hung_up == 1
    await twin.close(runner)


async def test_a_broker_that_shuts_down_may_come_back(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.recall_lease(SHUTTING_DOWN, 1.0)
    assert await works(twin, runner)
    npu.end_lease(SHUTTING_DOWN)
    npu.die()
    runner._loaded._holding.listen()
    npu.come_back()
    npu.resume_error = UNKNOWN
    npu.lease_id = "lease-2"
    assert await works(twin, runner)
    assert npu.acquired == ["warboy(2)*1", "npu:0:0-1"]
    await twin.close(runner)


# --- the lease is gone, or somebody else's


@pytest.mark.parametrize(
    "error", [UNKNOWN, NotLeaseOwner("lease-1", 7), LeaseEnded("lease-1", "its time was over")]
)
@pytest.mark.parametrize(("wait", "limit"), [(None, 5.0), (30.0, 30.0)])
async def test_the_same_devices_are_leased_anew(
    npu: FakeNpu, twin: Twin, error: FuriosaError, wait: float | None, limit: float
) -> None:
    npu.files = ("npu0pe0", "npu1pe1")
    runtime = twin.runtime("warboy(1)*2", wait=wait)
    runner = await twin.runner_of(runtime, ENF)
    npu.restart()
    npu.resume_error = error
    npu.lease_id = "lease-2"
    assert await works(twin, runner)
    assert npu.acquired == ["warboy(1)*2", "npu:0:0,npu:1:1"]
    assert npu.waits == [wait, limit]
    assert runtime.lease.id == "lease-2"
    assert runtime.devices == ("npu0pe0", "npu1pe1")
    await twin.close(runtime)
    assert npu.released == ["lease-2"]


async def test_a_device_of_somebody_else_ends_the_session_by_name(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.restart()
    npu.resume_error = UNKNOWN
    npu.acquire_error = DeviceBusy("npu0pe0-1", "npu0pe0-1", 4711, "python other.py")
    for _ in range(2):
        with pytest.raises(SessionTerminated, match=r"held by pid 4711 \(python other.py\)"):
            await twin.run(runner, ones())
    assert npu.reopened == 1
    assert npu.hung_up == 2
    await twin.close(runner)


async def test_a_revoked_lease_is_not_replaced(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.restart()
    npu.resume_error = LeaseEnded("lease-1", f"{REVOKED}: maintenance")
    with pytest.raises(SessionTerminated, match="maintenance"):
        await twin.run(runner, ones())
    assert len(npu.acquired) == 1
    await twin.close(runner)


async def test_a_recalled_lease_is_not_resumed(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    npu.recall_lease()
    assert await works(twin, runner)
    npu.restart()
    with pytest.raises(SessionTerminated, match=GONE):
        await twin.run(runner, ones())
    assert npu.reopened == 0
    await twin.close(runner)


# --- what is seen of it


async def test_the_lease_in_all_its_states(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    assert runtime.lease is None
    runner = await twin.runner_of(runtime, ENF)
    assert runtime.lease == npu.lease
    npu.die()
    assert runtime.lease.state is LeaseState.DETACHED
    assert runtime.lease.cause == GONE
    assert runtime.devices == ("npu0pe0-1",)
    npu.come_back()
    assert await works(twin, runner)
    assert runtime.lease == npu.lease
    npu.recall_lease("maintenance", 10.0)
    assert runtime.lease.state is LeaseState.RECALLED
    assert runtime.lease.cause == "maintenance"
    assert runtime.lease.ends_at is not None
    npu.end_lease("maintenance")
    assert runtime.lease.state is LeaseState.ENDED
    assert runtime.lease.cause == "lease lease-1 has ended: maintenance"
    assert runtime.lease.ends_at is None
    await twin.close(runtime)
    assert runtime.lease is None


@pytest.mark.parametrize(("policy", "error"), [("retry", ValueError), (True, TypeError)])
async def test_another_policy_is_refused(
    npu: FakeNpu, twin: Twin, policy: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="on_broker_restart: expected"):
        twin.runtime(on_broker_restart=policy)
    with pytest.raises(error, match="on_broker_restart: expected"):
        await twin.create_queue(ENF, on_broker_restart=policy)
    assert npu.waits == []
