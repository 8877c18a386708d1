from pathlib import Path

import pytest

from furiosa.broker.devices import Gauges, Sensors, read_counters, read_sensors
from furiosa.common.names import DeviceFile
from furiosa.sysfs import Card, CounterReading, discover, hwmon
from furiosa.sysfs.hwmon import Kind
from support.devtrees import copied, is_file, recorded
from support.virtual_cards import uncounted

PE0 = DeviceFile.parse("npu0pe0")


def one_card(tmp_path: Path) -> tuple[Path, Card, Path]:
    root = copied("one-card", tmp_path)
    (card,) = discover(root, is_device=is_file)
    folder = hwmon.folder(root, card.pci_bdf)
    assert folder is not None
    return root, card, folder


def test_the_peak_sensor_and_the_whole_card_are_shown() -> None:
    root = recorded("one-card")
    (card,) = discover(root, is_device=is_file)
    assert uncounted(read_sensors(root, card)) == Sensors(True, 54_000, 990_000)


def test_without_a_peak_sensor_the_average_is_shown_and_else_the_warmest() -> None:
    root = recorded("two-cards")
    first, second = discover(root, is_device=is_file)
    assert uncounted(read_sensors(root, first)) == Sensors(True, 41_000, 1_250_000)
    assert uncounted(read_sensors(root, second)) == Sensors(True, 38_000, None)


def test_sensors_are_read_each_time(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    (folder / "temp9_input").write_text("60123\n")
    (root / "sys/class/npu_mgmt/npu1_mgmt/alive").write_text("0\n")
    assert uncounted(read_sensors(root, card)) == Sensors(False, 60_123, 990_000)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "IoError: [Errno 2] No such file or directory: '"),
        ("warm", "Unexpected value format: temp9 warm ("),
        ("2147483648", "Unexpected value format: temp9 2147483648 ("),
    ],
)
def test_a_bad_value_is_missing_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, cause: str
) -> None:
    root, card, folder = one_card(tmp_path)
    gauges, path = Gauges(root), folder / "temp9_input"
    good = path.read_text()
    assert gauges.read(card).temperature_millicelsius == 54_000
    path.unlink() if text is None else path.write_text(text)
    assert uncounted(gauges.read(card)) == Sensors(True, None, 990_000)
    (line,) = caplog.messages
    assert line.startswith(f"HwmonError: [npu1] {cause}")

    path.write_text(good)
    assert gauges.read(card).temperature_millicelsius == 54_000
    path.write_text("again")
    for _ in range(3):
        gauges.read(card)
    assert [line.partition(" (")[0] for line in caplog.messages[1:]] == [
        "HwmonError: [npu1] Unexpected value format: temp9 again"
    ]


def test_a_sensor_without_a_value_fails_the_search_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, card, folder = one_card(tmp_path)
    (folder / "temp1_input").unlink()
    gauges = Gauges(root)
    for _ in range(3):
        assert uncounted(gauges.read(card)) == Sensors(True, None, None)
    assert caplog.messages == ["HwmonError: [npu1] Item Not found: temp1 input"]


def test_another_sensor_that_is_broken_does_no_harm(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    (folder / "temp1_input").write_text("warm")
    assert read_sensors(root, card).temperature_millicelsius == 54_000


def test_sensors_that_come_later_than_their_card_are_found(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    away = folder.rename(tmp_path / "away")
    gauges = Gauges(root)
    assert uncounted(gauges.read(card)) == Sensors(True, None, None)
    away.rename(folder)
    assert uncounted(gauges.read(card)) == Sensors(True, 54_000, 990_000)


def test_sensors_that_have_moved_are_found_again(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    gauges = Gauges(root)
    gauges.read(card)
    folder.rename(folder.with_name("hwmon77"))
    gauges.read(card)
    assert uncounted(gauges.read(card)) == Sensors(True, 54_000, 990_000)


def test_a_card_that_was_pulled_out_says_nothing(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    (root / "sys/class/npu_mgmt/npu1_mgmt").unlink()
    folder.rename(folder.with_name("gone"))
    assert read_sensors(root, card) == Sensors(None, None, None)


def test_a_reading_just_below_zero_is_no_power(tmp_path: Path) -> None:
    root, card, folder = one_card(tmp_path)
    (folder / "power6_average").write_text("-12")
    assert read_sensors(root, card).power_microwatts == 0


def test_a_kind_is_found_by_number_with_its_labels(tmp_path: Path) -> None:
    for name, text in {
        "temp10_input": "3",
        "temp2_input": "-2",
        "temp2_label": " NE \n",
        "tempest_input": "x",
        "name": "npu0",
        "uevent": "",
        "in0_input": "800",
    }.items():
        (tmp_path / name).write_text(text)
    assert hwmon.channels(tmp_path, Kind.TEMPERATURE) == (
        hwmon.Channel("NE", tmp_path / "temp2_input"),
        hwmon.Channel("10", tmp_path / "temp10_input"),
    )
    assert hwmon.value(tmp_path / "temp2_input") == -2
    assert [found.label for found in hwmon.channels(tmp_path, Kind.VOLTAGE)] == ["0"]
    assert hwmon.channels(tmp_path, Kind.CURRENT) == ()


def test_counters_are_read_with_the_time() -> None:
    reading = read_counters(recorded("two-cards"), PE0, clock_ns=lambda: 77)
    assert reading == CounterReading(77, cycle=0x2_0000_1000, task=0x800, tensor=0x600)


def test_a_device_file_that_is_not_in_use_has_no_counters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert read_counters(recorded("two-cards"), DeviceFile.parse("npu0pe1")) is None
    assert caplog.text == ""


def test_counters_that_make_no_sense_are_missing_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copied("two-cards", tmp_path)
    (root / "sys/class/npu_mgmt/npu0pe0/perf_regs").write_text("CycleCount: 0x1\n")
    assert read_counters(root, PE0) is None
    assert read_counters(root, PE0) is None
    assert caplog.messages == [
        "[npu0pe0] PerformanceCounterError: Unexpected PerformanceCounter format."
    ]


def test_error_counters_have_the_keys_of_their_names(tmp_path: Path) -> None:
    root, card, _ = one_card(tmp_path)
    assert read_sensors(root, card).errors["pcie_doorbell_done"] == 0
    file = root / "sys/class/npu_mgmt/npu1_mgmt/atr_error"
    file.write_text("PCIe Fetch Error: 7\nDevice Error:3\nnothing\nMany: of them\nX: -1\n")
    assert read_sensors(root, card).errors == {"pcie_fetch_error": 7, "device_error": 3}
    file.unlink()
    assert read_sensors(root, card).errors == {}
