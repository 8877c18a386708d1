"""Queueing for devices that others hold, and which ones are held then."""

import asyncio
import math
import threading
from typing import Any

import anyio
import pytest

from furiosa.runtime import Runtime, create_queue, create_runner, sync
from furiosa.runtime._core.errors import DeviceBusy, SessionClosed
from support.fake_connection import FakeNpu
from support.runners import ENF, works
from support.twins import Twin


async def test_nobody_waits_unless_asked_to(npu: FakeNpu, twin: Twin) -> None:
    npu.busy = True
    for wait in (None, 0):
        with pytest.raises(DeviceBusy, match="held by pid 4711"):
            await twin.create_runner(ENF, wait=wait)
    assert npu.waits == [None, 0]
    assert npu.hung_up == 2


@pytest.mark.parametrize("wait", [30, 2.5, math.inf])
async def test_the_limit_reaches_the_broker(npu: FakeNpu, twin: Twin, wait: float) -> None:
    runtime = twin.runtime(wait=wait)
    runner = await twin.runner_of(runtime, ENF)
    await twin.close(runtime)
    _, receiver = await twin.create_queue(ENF, wait=wait)
    await twin.close(receiver)
    await twin.close(await twin.create_runner(ENF, wait=wait))
    assert npu.waits == [wait] * 3
    assert runner.model.input_num == 1


async def test_who_waits_gets_the_device_when_it_is_free(npu: FakeNpu, twin: Twin) -> None:
    npu.busy = True
    runners: list[Any] = []

    async def create() -> None:
        runners.append(await twin.create_runner(ENF, wait=60))

    async with anyio.create_task_group() as group:
        group.start_soon(create)
        while not npu.waits:
            await anyio.lowlevel.checkpoint()
        assert npu.acquired == []
        npu.busy = False
    assert await works(twin, runners[0])
    await twin.close(runners[0])


@pytest.mark.parametrize(
    ("wait", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("3", TypeError), (True, TypeError)],
)
async def test_a_wait_that_is_no_time_is_refused(
    npu: FakeNpu, twin: Twin, wait: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="wait: expected a number of seconds"):
        twin.runtime(wait=wait)
    with pytest.raises(error, match="wait: expected a number of seconds"):
        await twin.create_runner(ENF, wait=wait)
    assert npu.waits == []


@pytest.mark.parametrize("create", [create_runner, create_queue])
async def test_a_cancelled_wait_leaves_nothing(npu: FakeNpu, create: Any) -> None:
    npu.busy = True
    with anyio.move_on_after(0.05) as scope:
        await create(ENF, wait=60)
    assert scope.cancelled_caught
    assert npu.waits == [60]
    assert npu.acquired == []
    assert npu.hung_up == 1


async def test_close_ends_the_wait(npu: FakeNpu) -> None:
    npu.busy = True
    runtime = Runtime(wait=60)
    creating = asyncio.ensure_future(_runner_of(runtime))
    while not npu.waits:
        await anyio.lowlevel.checkpoint()
    assert await runtime.close() is True
    with pytest.raises(SessionClosed, match="the runtime is closed"):
        await creating
    assert npu.acquired == []
    assert npu.hung_up == 1


async def _runner_of(runtime: Runtime) -> object:
    return await runtime.create_runner(ENF)


def test_close_by_another_thread_ends_the_wait(npu: FakeNpu) -> None:
    npu.busy = True
    runtime = sync.Runtime(wait=60)
    raised: list[Exception] = []

    def create() -> None:
        try:
            runtime.create_runner(ENF)
        except SessionClosed as error:
            raised.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    while not npu.waits:
        threading.Event().wait(0)
    assert runtime.close() is True
    thread.join()
    assert len(raised) == 1
    assert npu.acquired == []


async def test_the_leased_devices(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    runtime = twin.runtime("warboy(1)*2")
    assert runtime.devices == ()
    await twin.runner_of(runtime, ENF)
    assert runtime.devices == ("npu0pe0", "npu0pe1")
    await twin.close(runtime)
    assert runtime.devices == ()
