"""Cards of a device tree, without a broker: recorded ones, and copies of them to break."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from furiosa import device
from furiosa.device import CoreStatus, CoreStatusType, sync
from furiosa.device._source import Tree
from furiosa.device.errors import (
    DeviceNotFound,
    HwmonError,
    IncompatibleDriver,
    IoError,
    PermissionDenied,
    UnexpectedValue,
)
from furiosa.sysfs.tree import MARKER
from support.devtrees import copied, is_file, recorded

AVAILABLE = CoreStatus(CoreStatusType.Available)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tree with the cards npu0 and npu10; device files are plain ones."""
    root = copied("two-cards", tmp_path)
    (root / MARKER).touch()
    monkeypatch.setenv("FURIOSA_DEVICE_ROOT", str(root))
    return root


def management(root: Path, file: str) -> Path:
    return root / "sys/class/npu_mgmt/npu0_mgmt" / file


def card(number: int = 0) -> sync.DeviceSync:
    return {found.device_index(): found for found in sync.list_devices()}[number]


def opening(error: int, name: str) -> Callable[[str, int], int]:
    """Stands in for a driver, which refuses to open the file `name`."""

    def opened(path: str, flags: int) -> int:
        if Path(path).name == name:
            raise OSError(error, os.strerror(error), path)
        return os.open(path, flags)

    return opened


async def test_both_modules_list_the_same_cards_by_index(root: Path) -> None:
    found = await device.list_devices()
    assert repr(found) == "[npu0, npu10]" == repr(sync.list_devices())
    assert found == sync.list_devices()
    assert isinstance(card(), device.Device)


def test_what_a_card_is(root: Path) -> None:
    found = card()
    assert (found.name(), found.device_index(), found.devfile_index()) == ("npu0", 0, 0)
    assert found.arch() is device.Arch.Warboy
    assert found.busname() == "0000:3b:00.0"
    assert found.pci_dev() == "492:0"
    assert found.device_sn() == "WBYB1234567890123"
    assert found.device_uuid() == "01234567-89AB-CDEF-0123-456789ABCDEF"
    assert found.numa_node() == -1
    assert (found.core_num(), found.cores()) == (2, [0, 1])
    assert repr(found.dev_files()) == "[npu0, npu0pe0, npu0pe1, npu0pe0-1]"
    assert found.dev_files()[3].path() == str(root / "dev/npu0pe0-1")


def test_what_changes_is_read_at_each_call(root: Path) -> None:
    found = card()
    assert found.alive()
    assert found.heartbeat() == 86_400
    assert found.firmware_version() == "1.7.3, 0a1b2c3"
    assert found.driver_version() == "1.9.2, 3d4e5f6"
    assert found.atr_error()["axi_post_error"] == 0
    assert [repr(clock) for clock in found.clock_frequency()] == [
        "ne tensor       : 2000 MHz",
        "ne memory       : 1000 MHz",
        "ne operation    : 1000 MHz",
        "dram            : 4266 MT/s",
    ]
    management(root, "alive").write_text("0\n")
    management(root, "heartbeat").write_text("86401\n")
    management(root, "fw_version").write_text("1.7.4, 1111111\n")
    management(root, "atr_error").write_text("AXI Post Error: 7\nnonsense\nDevice Error: x\n")
    management(root, "ne_clk_freq_info").write_text("ne tensor (MHz): 1800\nne memory: 1\n")
    assert not found.alive()
    assert found.heartbeat() == 86_401
    assert found.firmware_version() == "1.7.4, 1111111"
    assert found.atr_error() == {"axi_post_error": 7}
    assert [clock.value for clock in found.clock_frequency()] == [1800]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("alive", "2", "Unexpected value: Bad alive value: 2 (only 0 or 1 expected)"),
        ("heartbeat", "-1", "Unexpected value: Bad heartbeat value: -1"),
    ],
)
def test_a_value_that_makes_no_sense_is_told(
    root: Path, file: str, text: str, message: str
) -> None:
    found = card()
    management(root, file).write_text(text)
    with pytest.raises(UnexpectedValue) as caught:
        found.alive() if file == "alive" else found.heartbeat()
    assert str(caught.value) == message


def test_a_file_that_is_gone_is_an_io_error(root: Path) -> None:
    found = card()
    management(root, "fw_version").unlink()
    with pytest.raises(IoError, match=r"^IoError: .*No such file.*fw_version"):
        found.firmware_version()


async def test_sensors_by_number_in_both_forms(root: Path) -> None:
    fetcher, waiting = card().get_hwmon_fetcher(), (await device.get_device(0)).get_hwmon_fetcher()
    assert isinstance(fetcher, sync.FetcherSync)
    assert isinstance(fetcher, device.Fetcher)
    assert repr(fetcher.read_currents()) == "[NE 12V Curr: 60]"
    assert repr(fetcher.read_voltages()) == "[NE Core Volt: 800]"
    assert repr(fetcher.read_powers_average()) == "[PCI Total RMS PWR: 1250000]"
    assert repr(fetcher.read_temperatures()) == "[AMBIENT: 30000, Average: 41000]"
    assert await waiting.read_currents() == fetcher.read_currents()
    assert await waiting.read_voltages() == fetcher.read_voltages()
    assert await waiting.read_powers_average() == fetcher.read_powers_average()
    assert await waiting.read_temperatures() == fetcher.read_temperatures()


def test_a_broken_sensor_fails_its_kind_alone(root: Path) -> None:
    fetcher = card().get_hwmon_fetcher()
    folder = root / "sys/bus/pci/devices/0000:3b:00.0/hwmon/hwmon10"
    (folder / "temp2_input").write_text("warm")
    with pytest.raises(HwmonError) as caught:
        fetcher.read_temperatures()
    assert str(caught.value) == "HwmonError: [npu0] Unexpected value format: temp2 warm"
    (folder / "temp2_input").unlink()
    with pytest.raises(HwmonError, match=r"^HwmonError: \[npu0\] Item Not found: temp2 input$"):
        fetcher.read_temperatures()
    assert len(fetcher.read_currents()) == 1


def test_a_kind_without_sensors_is_empty_and_one_without_a_label_has_its_number(root: Path) -> None:
    folder = root / "sys/bus/pci/devices/0000:3b:00.0/hwmon/hwmon10"
    (folder / "in0_label").unlink()
    for name in ("curr1_input", "curr1_label"):
        (folder / name).unlink()
    fetcher = card().get_hwmon_fetcher()
    assert fetcher.read_currents() == []
    assert repr(fetcher.read_voltages()) == "[0: 800]"


def test_counters_of_the_files_that_have_some(root: Path) -> None:
    ((file, counter),) = card().performance_counters()
    assert repr(file) == "npu0pe0"
    assert repr(counter) == f"PerformanceCounter {(2 << 32) + 0x1000} {0x800} {0x600}"
    registers = root / "sys/class/npu_mgmt/npu0pe0/perf_regs"
    registers.write_text("CycleCount: 0x1\n")
    assert card().performance_counters() == []


async def test_free_cores_are_available(root: Path) -> None:
    found = await device.get_device(0)
    assert await found.get_status_all() == {0: AVAILABLE, 1: AVAILABLE}
    assert await found.get_status_core(1) == AVAILABLE
    assert card().get_status_all() == {0: AVAILABLE, 1: AVAILABLE}
    assert card().get_status_core(0) == AVAILABLE
    with pytest.raises(DeviceNotFound, match="npu0pe2"):
        await found.get_status_core(2)


def test_a_core_whose_file_is_busy_is_occupied() -> None:
    root = recorded("two-cards")
    tree = Tree(root, is_device=is_file, opened=opening(errno.EBUSY, "npu0pe1"))
    found = sync.DeviceSync(tree, tree.cards()[0])
    occupied = CoreStatus(CoreStatusType.Occupied, "npu0pe1")
    assert found.get_status_all() == {0: AVAILABLE, 1: occupied}


@pytest.mark.parametrize(
    ("error", "kind"), [(errno.EACCES, PermissionDenied), (errno.EIO, IoError)]
)
def test_any_other_error_is_raised(error: int, kind: type[Exception]) -> None:
    tree = Tree(recorded("two-cards"), is_device=is_file, opened=opening(error, "npu0pe0"))
    found = sync.DeviceSync(tree, tree.cards()[0])
    with pytest.raises(kind, match=rf"^{kind.__name__}: .*npu0pe0"):
        found.get_status_core(0)


def test_the_momentary_open_leaves_nothing_open(root: Path) -> None:
    before = os.listdir("/proc/self/fd")
    card().get_status_all()
    assert os.listdir("/proc/self/fd") == before


async def test_one_card_by_number(root: Path) -> None:
    assert repr(await device.get_device(10)) == "npu10"
    assert type(sync.get_device(10)) is device.Device, "as published"
    with pytest.raises(RuntimeError) as caught:
        sync.get_device(1)
    assert str(caught.value) == "Device npu1 not found"


async def test_one_file_by_name(root: Path) -> None:
    found = await device.get_device_file("npu10pe0")
    assert found == sync.get_device_file("npu10pe0")
    assert (repr(found), found.path()) == ("npu10pe0", str(root / "dev/npu10pe0"))
    with pytest.raises(DeviceNotFound) as missing:
        sync.get_device_file("npu3")
    assert str(missing.value) == "Device npu3 not found"
    with pytest.raises(IncompatibleDriver) as other:
        sync.get_device_file("npu0_mgmt")
    unrecognized = "Incompatible device driver: npu0_mgmt file cannot be recognized"
    assert str(other.value) == unrecognized


def test_a_file_that_is_no_device_or_is_busy() -> None:
    root = recorded("two-cards")
    with pytest.raises(IncompatibleDriver) as caught:
        Tree(root).named("npu0pe0")
    path = root / "dev/npu0pe0"
    assert str(caught.value) == f"Incompatible device driver: {path} is not a valid device file"
    busy = Tree(root, is_device=is_file, opened=opening(errno.EBUSY, "npu0pe0"))
    with pytest.raises(IoError, match=r"^IoError: .*busy"):
        busy.named("npu0pe0")


async def test_files_are_found_by_configuration(root: Path) -> None:
    config = device.DeviceConfig.from_str("warboy(1)*1,npu:10:0")
    assert repr(await device.find_device_files(config)) == "[npu10pe0, npu0pe0]"
    assert sync.find_device_files(config) == await device.find_device_files(config)


@pytest.mark.parametrize("name", ["no-cards", "foreign-platform"])
async def test_no_card_is_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FURIOSA_DEVICE_ROOT", str(recorded(name)))
    assert await device.list_devices() == []
    assert sync.list_devices() == []
