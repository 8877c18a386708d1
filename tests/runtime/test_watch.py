"""The event loop keeps what an asynchronous runner waits for, and gives it back."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from furiosa.common.model_limits import ENF_MAGIC
from furiosa.runtime import Runner, create_runner
from furiosa.runtime._async.io import Watch
from furiosa.runtime._async.io.watch import OnAsyncio
from support.fake_connection import AsyncFakeConnection, FakeNpu
from support.queues import open_descriptors
from support.runners import ones

if TYPE_CHECKING:
    from furiosa.client import Connection

ENF = ENF_MAGIC + b"program"


class Sleep:
    """One wait in a task; `looks` counts. It is over when `enough`."""

    def __init__(self, watch: Watch, fd: int) -> None:
        self.looks = 0
        self.enough = True
        self._fd = fd
        self.task = asyncio.create_task(watch.wait(self._look, 0))

    def _look(self) -> bool:
        self.looks += 1
        os.eventfd_read(self._fd)
        return self.enough


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield made
    os.close(made)


def watch_of(npu: FakeNpu, *fds: int) -> OnAsyncio:
    watch = Watch(cast("Connection", AsyncFakeConnection(npu)), "lease-1", fds[:-1], fds[-1])
    assert isinstance(watch, OnAsyncio)
    return watch


async def spun(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_waiter_sleeps_until_it_has_seen_enough(npu: FakeNpu, fd: int) -> None:
    watch = watch_of(npu, fd)
    sleep = Sleep(watch, fd)
    sleep.enough = False
    for looks in (1, 2):
        await spun()
        os.eventfd_write(fd, 1)
        await spun()
        assert sleep.looks == looks
        assert not sleep.task.done()
    sleep.enough = True
    os.eventfd_write(fd, 1)
    await sleep.task
    assert sleep.looks == 3
    watch.close()


async def test_the_loop_keeps_descriptors_between_waits(npu: FakeNpu, fd: int) -> None:
    watch = watch_of(npu, fd)
    for turn in range(3):
        sleep = Sleep(watch, fd)
        await spun()
        if turn == 0:
            kept = watch._kept
        assert watch._kept == kept != ()
        os.eventfd_write(fd, 1)
        await sleep.task
    watch.close()


async def test_what_nobody_waits_for_does_not_keep_the_loop_busy(npu: FakeNpu, fd: int) -> None:
    before = open_descriptors()
    watch = watch_of(npu, fd)
    sleep = Sleep(watch, fd)
    await spun()
    sleep.task.cancel()
    await asyncio.wait([sleep.task])
    os.eventfd_write(fd, 1)
    await spun()
    assert watch._kept == ()
    assert open_descriptors() == before
    again = Sleep(watch, fd)
    await again.task
    assert again.looks == 1, "and it is found later"
    watch.close()


async def test_news_of_the_lease_end_a_wait(npu: FakeNpu, fd: int) -> None:
    watch = watch_of(npu, fd)
    task = asyncio.create_task(watch.wait(lambda: True, 0))
    await spun()
    assert not task.done()
    npu.recall_lease()
    await task
    await watch.wait(lambda: True, 0)  # they have not been taken
    watch.close()


@pytest.mark.parametrize("where", ["the task", "a thread"])
async def test_closing_gives_the_descriptors_back(npu: FakeNpu, fd: int, where: str) -> None:
    before = open_descriptors()
    watch = watch_of(npu, fd)
    sleep = Sleep(watch, fd)
    await spun()
    os.eventfd_write(fd, 1)
    await sleep.task
    assert open_descriptors() != before
    if where == "a thread":
        thread = threading.Thread(target=watch.close)
        thread.start()
        thread.join()
    else:
        watch.close()
    await spun()
    assert open_descriptors() == before


def test_a_runner_that_outlives_its_event_loop_gives_the_descriptors_back(npu: FakeNpu) -> None:
    runners: list[Runner] = []

    async def main() -> OnAsyncio:
        runners.append(await create_runner(ENF))
        await runners[0].run(ones())
        watch = runners[0]._loaded._deployments[0].watch
        assert isinstance(watch, OnAsyncio)
        return watch

    watch = asyncio.run(main())
    assert watch._kept
    runners.clear()
    gc.collect()
    assert watch._kept == ()
