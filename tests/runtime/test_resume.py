"""The broker goes, and comes back or does not, in both styles."""

import asyncio
import logging
import os
import signal
import threading
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
from furiosa.runtime import FuriosaRuntimeError, Runtime, create_runner, sync
from furiosa.runtime._async import claim as async_claim
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from furiosa.runtime._sync import claim as sync_claim
from support.fake_connection import FakeNpu, X
from support.runners import ENF, failures, ones, works
from support.twins import Twin

GONE = "no broker at unix:/fake: it closed the connection"
UNKNOWN = UnknownLease("lease-1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (async_claim, sync_claim):
        monkeypatch.setattr(module, "RESUME_SECONDS", 0.0)


async def waits(loaded: Any) -> None:
    """Until somebody waits for the broker to come back."""
    while not loaded._holding._claim._naps:
        await anyio.lowlevel.checkpoint()


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
    runner = await twin.create_runner(ENF)
    npu.restart()
    with caplog.at_level(logging.INFO, "furiosa.runtime"):
        assert await works(twin, runner)
    went, came = caplog.records
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


# --- the broker does not come back


@pytest.mark.usefixtures("impatient")
async def test_a_broker_that_stays_away_ends_every_model(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    runners = [await twin.runner_of(runtime, ENF) for _ in range(2)]
    npu.die()
    for runner in (*runners, *runners):
        with pytest.raises(SessionTerminated, match=f"the session was terminated: {GONE}"):
            await twin.run(runner, ones())
    with pytest.raises(SessionTerminated, match=GONE):
        await twin.runner_of(runtime, ENF)
    assert npu.reopened == 1
    assert await twin.close(runtime)


async def test_close_ends_the_wait(npu: FakeNpu, twin: Twin) -> None:
    for of_runtime in (False, True):
        runtime = twin.runtime()
        runner = await twin.runner_of(runtime, ENF)
        other = await twin.runner_of(runtime, ENF)
        npu.die()
        closed = runtime if of_runtime else runner
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(refused, twin, runner)
            await waits(runner._loaded)
            assert await twin.close(closed) is True
        npu.come_back()
        if not of_runtime:
            assert await works(twin, other)
        await twin.close(runtime)


async def refused(twin: Twin, runner: Any) -> None:
    with pytest.raises(SessionClosed):
        await twin.run(runner, ones())


async def test_close_ends_the_wait_for_the_devices(npu: FakeNpu, twin: Twin) -> None:
    for of_runtime in (False, True):
        runtime = twin.runtime(wait=60)
        runner = await twin.runner_of(runtime, ENF)
        npu.restart()
        npu.resume_error = UNKNOWN
        npu.busy = True
        count = len(npu.waits)
        async with anyio.create_task_group() as group:
            group.start_soon(refused, twin, runner)
            while len(npu.waits) == count:
                await anyio.lowlevel.checkpoint()
            assert await twin.close(runtime if of_runtime else runner) is True
        npu.busy = False
        await twin.close(runtime)


async def test_who_is_cancelled_leaves_the_work_to_the_next(npu: FakeNpu) -> None:
    async with create_runner(ENF) as runner:
        npu.die()
        first = asyncio.ensure_future(runner.run(ones()))
        await waits(runner._loaded)
        second = asyncio.ensure_future(runner.run(ones()))
        while len(runner._loaded._holding._claim._naps) < 2:
            await anyio.lowlevel.checkpoint()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        npu.come_back()
        assert np.array_equal((await second)[0], ones(2))
        assert npu.resumed == ["lease-1"]


async def test_cancelled_at_any_await_it_leaves_nothing_and_can_be_tried_again(
    npu: FakeNpu,
) -> None:
    steps = 0
    while True:
        runtime = Runtime()
        runner = await runtime.create_runner(ENF)
        npu.restart()
        task = asyncio.ensure_future(runner.run(ones()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            break
        assert np.array_equal((await runner.run(ones(3)))[0], ones(6))
        await runtime.close()
        steps += 1
    await runtime.close()
    assert steps > 5
    assert npu.hung_up == len(npu.acquired) + npu.reopened


def test_a_blocking_call_waits_and_close_by_another_thread_ends_it(npu: FakeNpu) -> None:
    runner = sync.create_runner(ENF)
    npu.die()
    raised: list[Exception] = []

    def run() -> None:
        try:
            runner.run(ones())
        except SessionClosed as error:
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(runner._loaded._holding._claim._naps) < 4:
        threading.Event().wait(0)
    assert runner.close() is True
    for thread in threads:
        thread.join()
    assert len(raised) == 4


def test_ctrl_c_ends_the_wait(npu: FakeNpu) -> None:
    with sync.create_runner(ENF) as runner:
        npu.die()

        def interrupt() -> None:
            while not runner._loaded._holding._claim._naps:
                threading.Event().wait(0)
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            runner.run(ones())
        thread.join()
        npu.come_back()
        assert np.array_equal(runner.run(ones())[0], ones(2))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("heard", [False, True], ids=["by the child", "by the parent"])
def test_a_forked_child_leaves_the_lease_to_its_parent(npu: FakeNpu, heard: bool) -> None:
    with sync.create_runner(ENF) as runner:
        npu.restart()
        if heard:
            runner._loaded._holding.listen()
        hung_up = npu.hung_up
        child = os.fork()
        if child == 0:
            try:
                runner.run(ones())
            except SessionTerminated:
                os._exit(7 if (npu.reopened, npu.hung_up) == (0, hung_up) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert np.array_equal(runner.run(ones())[0], ones(2))


def test_many_threads_over_many_restarts(npu: FakeNpu) -> None:
    over = threading.Event()
    wrong: list[object] = []
    done = [0] * 6

    def run(runner: sync.Runner, number: int) -> None:
        while not over.is_set():
            try:
                (output,) = runner.run(ones(number))
                if not np.array_equal(output, ones(2 * number)):
                    wrong.append(output)
                done[number] += 1
            except FuriosaRuntimeError as error:
                if type(error) is not FuriosaRuntimeError:
                    wrong.append(error)

    with sync.Runtime() as runtime:
        runners = [runtime.create_runner(ENF) for _ in range(2)]
        threads = [threading.Thread(target=run, args=(runners[n % 2], n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            before = list(done)
            while any(now == then for now, then in zip(done, before, strict=True)):
                threading.Event().wait(0.001)
            npu.restart()
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert 0 < len(npu.resumed) <= 30


# --- queues


async def test_a_queue_goes_on_after_what_was_in_flight_has_failed(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=2)
    npu.hold()
    for number in range(6):
        await twin.submit(submitter, ones(number), number)
    while len(submitter._queue.loaded._deployments[0].runs._submitted) < 2:
        await anyio.lowlevel.checkpoint()
    npu.restart()
    npu.go.set()
    done: dict[Any, Any] = {}
    lost: list[tuple[Any, str]] = []
    for _ in range(6):
        try:
            context, (output,) = await twin.recv(receiver)
            done[context] = output
        except FuriosaRuntimeError as error:
            lost.append((error.context, str(error)))
    text = f"the broker went away, and it is not known whether this inference was run: {GONE}"
    assert sorted(lost) == [(0, text), (1, text)]
    assert sorted(done) == [2, 3, 4, 5]
    assert all(np.array_equal(output, ones(2 * number)) for number, output in done.items())
    assert npu.resumed == ["lease-1"]
    assert await twin.close(receiver) is True


async def test_an_idle_queue_resumes_by_itself(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    npu.restart()
    while not npu.resumed:
        await anyio.lowlevel.checkpoint()
    await twin.submit(submitter, ones(), 1)
    assert (await twin.recv(receiver))[0] == 1
    assert await twin.close(receiver) is True


@pytest.mark.usefixtures("impatient")
async def test_a_queue_ends_when_the_broker_stays_away(npu: FakeNpu, twin: Twin) -> None:
    _, receiver = await twin.create_queue(ENF)
    npu.die()
    with pytest.raises(SessionTerminated, match=GONE):
        await twin.recv(receiver)
    assert await twin.close(receiver) is True


async def test_a_queue_is_closed_while_the_broker_is_away(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    npu.die()
    await waits(submitter._queue.loaded)
    for number in range(3):
        await twin.submit(submitter, ones(), number)
    assert await twin.close(receiver) is True
    with pytest.raises(SessionClosed):
        await twin.recv(receiver)


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
