from collections.abc import Mapping, Sequence

from furiosa.broker.devices import CounterReading
from furiosa.broker.utilization import measure
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState, LeaseView, OwnerView

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
