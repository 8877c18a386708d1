"""What the methods of a device return."""

import pytest

from furiosa.common.names import DeviceFile as Name
from furiosa.device import (
    Arch,
    CoreRange,
    CoreRangeType,
    CoreStatus,
    CoreStatusType,
    DeviceFile,
    DeviceMode,
    NeClockFrequency,
    PerformanceCounter,
    SensorValue,
    Utilization,
)
from furiosa.sysfs import CounterReading


def test_the_members_of_the_enumerations() -> None:
    assert Arch["WarboyB0"] is Arch.Warboy
    assert {arch.name for arch in Arch} == {"WarboyA0", "Warboy", "Renegade", "RNGD", "U250"}
    assert [mode.name for mode in DeviceMode] == ["Single", "Fusion", "MultiCore"]
    assert [kind.name for kind in CoreStatusType] == ["Available", "Occupied", "Unavailable"]
    assert [kind.name for kind in CoreRangeType] == ["All", "Range"]
    assert repr([Arch.Warboy, DeviceMode.Fusion]) == "[Arch.Warboy, DeviceMode.Fusion]"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (CoreStatus(CoreStatusType.Available), "Available"),
        (CoreStatus(CoreStatusType.Occupied, "npu0pe0"), "Occupied by npu0pe0"),
        (CoreStatus(CoreStatusType.Unavailable), "Unavailable"),
    ],
)
def test_a_core_status_shows_who_has_it(status: CoreStatus, text: str) -> None:
    assert repr(status) == text
    assert status == CoreStatus(status.status_type, status.value)
    assert status.value == (text.rpartition(" ")[2] if "by" in text else None)


@pytest.mark.parametrize(
    ("name", "mode", "text", "value", "inside", "outside"),
    [
        ("npu3", DeviceMode.MultiCore, "All", None, (0, 1, 200), ()),
        ("npu3pe1", DeviceMode.Single, "Range (1, 1)", (1, 1), (1,), (0, 2)),
        ("npu3pe0-1", DeviceMode.Fusion, "Range (0, 1)", (0, 1), (0, 1), (2,)),
    ],
)
def test_a_device_file(
    name: str,
    mode: DeviceMode,
    text: str,
    value: tuple[int, int] | None,
    inside: tuple[int, ...],
    outside: tuple[int, ...],
) -> None:
    file = DeviceFile(Name.parse(name), f"/dev/{name}")
    assert (repr(file), file.filename(), file.path()) == (name, name, f"/dev/{name}")
    assert file.device_index() == file.devfile_index() == 3
    assert file.mode() is mode
    cores: CoreRange = file.core_range()
    assert (repr(cores), cores.value) == (text, value)
    assert cores.range_type is (CoreRangeType.All if value is None else CoreRangeType.Range)
    assert all(map(cores.contains, inside))
    assert not any(map(cores.contains, outside))
    assert file == DeviceFile(Name.parse(name), f"/dev/{name}")
    assert file != DeviceFile(Name.parse("npu4"), f"/dev/{name}")


def test_a_sensor_and_a_clock() -> None:
    assert repr(SensorValue("Peak", 41_000)) == "Peak: 41000"
    assert repr(NeClockFrequency("ne tensor", "MHz", 2000)) == "ne tensor       : 2000 MHz"


OLDER = PerformanceCounter(CounterReading(0, cycle=1_000, task=100, tensor=50))
NEWER = PerformanceCounter(CounterReading(1_000, cycle=3_000, task=1_100, tensor=800))


def test_counters_and_what_was_counted_between_two_readings() -> None:
    assert repr(NEWER) == "PerformanceCounter 3000 1100 800"
    counts = (NEWER.cycle_count(), NEWER.task_execution_cycle(), NEWER.tensor_execution_cycle())
    assert counts == (3_000, 1_100, 800)
    assert repr(OLDER.calculate_increased(NEWER)) == "PerformanceCounter 2000 1000 750"
    assert OLDER.calculate_increased(NEWER) == NEWER.calculate_increased(OLDER)


def test_use_between_two_readings_in_either_order() -> None:
    use: Utilization = OLDER.calculate_utilization(NEWER)
    assert (use.npu_utilization(), use.computation_ratio(), use.io_ratio()) == (0.5, 0.75, 0.25)
    assert repr(use) == "NPU Utilization 0.5"
    assert use == NEWER.calculate_utilization(OLDER)
    assert repr(NEWER.calculate_utilization(NEWER)) == "NPU Utilization 0.0"
