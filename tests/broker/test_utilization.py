import asyncio
from collections.abc import Mapping, Sequence

import pytest

from furiosa.broker.utilization import measure
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState, LeaseView, OwnerView
from furiosa.sysfs import CounterReading

PE0, PE1 = DeviceFile.parse("npu0pe0"), DeviceFile.parse("npu0pe1")
SECOND = 10**9  # also cycles: the counter clock is 1 GHz


def a_lease(*files: DeviceFile) -> LeaseView:
    return LeaseView("l", files, LeaseState.GRANTED, OwnerView(7, 0, 0, 0, "app"), 0.0)


async def test_fractions_come_from_the_difference_of_two_readings() -> None:
    readings = {
        PE0: iter(
            [CounterReading(0, 0, 0, 0), CounterReading(SECOND, SECOND, SECOND // 2, SECOND // 8)]
        ),
        PE1: iter([None, CounterReading(SECOND, SECOND, 5, 5)]),
    }

    async def read(
        files: Sequence[DeviceFile],
    ) -> Mapping[DeviceFile, CounterReading | None]:
        return {file: next(readings[file]) for file in files}

    rows = await measure(lambda: [a_lease(PE1, PE0)], read, 0.0)
    assert [row.device_file for row in rows] == [PE0, PE1]
    busy, unknown = rows
    assert (busy.npu_fraction, busy.computation_fraction, busy.io_fraction) == (0.5, 0.25, 0.75)
    assert (busy.pid, busy.command_line) == (7, "app")
    assert (unknown.npu_fraction, unknown.computation_fraction, unknown.io_fraction) == (0, 0, 0)


async def test_only_files_leased_at_both_ends_have_a_row() -> None:
    leases = iter([[a_lease(PE0)], [a_lease(PE1)]])

    async def read(
        files: Sequence[DeviceFile],
    ) -> Mapping[DeviceFile, CounterReading | None]:
        return dict.fromkeys(files)

    assert await measure(lambda: next(leases), read, 0.0) == ()


async def test_counters_that_wrap_in_a_long_window_are_read_before_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def read(
        files: Sequence[DeviceFile],
    ) -> Mapping[DeviceFile, CounterReading | None]:
        now = round(sum(slept) * SECOND)
        return {PE0: CounterReading(now, now, now * 3 // 4 % 2**32, now // 4 % 2**32)}

    monkeypatch.setattr(asyncio, "sleep", sleep)
    [row] = await measure(lambda: [a_lease(PE0)], read, 60.0)
    assert max(slept) * SECOND < 2**32
    assert sum(slept) == pytest.approx(60)
    assert row.npu_fraction == pytest.approx(0.75)
    assert row.computation_fraction == pytest.approx(1 / 3)
    assert row.io_fraction == pytest.approx(2 / 3)
