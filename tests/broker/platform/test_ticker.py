import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from furiosa.broker.devices import read_counters
from furiosa.broker.platform import Measured, Ticker, VirtualPlatform
from furiosa.common.names import DeviceFile
from support.waiting import until

PE0 = DeviceFile.parse("npu0pe0")
Readings = Mapping[DeviceFile, Measured | None]


class Slow(VirtualPlatform):
    """Stands in a tick until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, machine="m")
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.inside = self.most = 0
        self.failure: OSError | None = None
        self.times: list[float | None] = []

    def tick(self, readings: Readings, now: float | None = None, **_: object) -> None:
        self.times.append(now)
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        self.go_on.acquire()
        self.inside -= 1
        if self.failure:
            raise self.failure


async def test_the_tree_is_current_when_a_tick_returns(tmp_path: Path) -> None:
    platform = VirtualPlatform(tmp_path, 1, machine="m")
    platform.write()
    await Ticker(platform, lambda: {PE0: None}).tick()
    assert read_counters(tmp_path, PE0) is not None


async def test_there_are_never_two_ticks_at_once_also_when_one_is_cancelled(tmp_path: Path) -> None:
    platform = Slow(tmp_path)
    ticker = Ticker(platform, dict)
    first = asyncio.create_task(ticker.tick())
    await asyncio.to_thread(platform.entered.acquire)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(ticker.tick())
    entered = await asyncio.to_thread(platform.entered.acquire, timeout=0.1)
    platform.go_on.release(2)
    await second
    assert not entered
    assert platform.most == 1


async def test_a_tick_that_had_to_wait_is_of_the_moment_of_its_readings(tmp_path: Path) -> None:
    platform, moments = Slow(tmp_path), []

    def readings() -> Readings:
        moments.append(time.monotonic())
        return {}

    ticker = Ticker(platform, readings)
    async with asyncio.TaskGroup() as group:
        group.create_task(ticker.tick())
        await asyncio.to_thread(platform.entered.acquire)
        group.create_task(ticker.tick())
        await until(lambda: len(moments) == 2)
        asked = time.monotonic()
        platform.go_on.release(2)
    assert platform.times[1] is not None
    assert moments[1] <= platform.times[1] <= asked


async def test_a_tree_that_cannot_be_written_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    platform = Slow(tmp_path)
    ticker = Ticker(platform, dict)
    platform.go_on.release(5)
    for failure in (OSError("full"), OSError("full"), None, OSError("full")):
        platform.failure = failure
        await ticker.tick()
    assert caplog.messages == ["platform.not_written cause=full"] * 2


async def test_a_broker_that_has_no_thread_for_it_shows_old_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    platform = VirtualPlatform(tmp_path, 1, machine="m")
    platform.write()
    ticker = Ticker(platform, lambda: {PE0: None})
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        await ticker.tick()
    assert caplog.messages == ['platform.not_written cause="can\'t start new thread"']
    await ticker.tick()
    assert read_counters(tmp_path, PE0) is not None
