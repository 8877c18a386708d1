from pathlib import Path

import pytest

from furiosa.broker.devices import (
    Card,
    CounterReading,
    Sensors,
    discover,
    read_counters,
    read_sensors,
)
from furiosa.broker.devices.hwmon import Kind, Reading, read
from furiosa.common.names import DeviceFile
from support.devtrees import copied, is_file, recorded

PE0 = DeviceFile.parse("npu0pe0")


def one_card(tmp_path: Path) -> tuple[Path, Card, Path]:
    root = copied("one-card", tmp_path)
    (card,) = discover(root, is_device=is_file)
    assert card.hwmon is not None
    return root, card, card.hwmon


def test_the_peak_sensor_and_the_whole_card_are_shown() -> None:
    root = recorded("one-card")
    (card,) = discover(root, is_device=is_file)
    assert read_sensors(root, card) == Sensors(True, 54_000, 990_000)


def test_without_a_peak_sensor_the_average_is_shown_and_else_the_warmest() -> None:
    root = recorded("two-cards")
    first, second = discover(root, is_device=is_file)
    assert read_sensors(root, first) == Sensors(True, 41_000, 1_250_000)
    assert read_sensors(root, second) == Sensors(True, 38_000, None)


def test_sensors_are_read_each_time(tmp_path: Path) -> None:
    root, card, hwmon = one_card(tmp_path)
    (hwmon / "temp9_input").write_text("60123\n")
    (root / "sys/class/npu_mgmt/npu1_mgmt/alive").write_text("0\n")
    assert read_sensors(root, card) == Sensors(False, 60_123, 990_000)


@pytest.mark.parametrize(
    ("file", "text", "cause"),
    [
        ("temp1_input", None, "Item Not found: temp1 input"),
        ("temp1_input", "warm", "Unexpected value format: temp1 warm"),
        ("temp1_input", "2147483648", "Unexpected value format: temp1 2147483648"),
    ],
)
def test_one_bad_sensor_fails_its_kind_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, text: str | None, cause: str
) -> None:
    root, card, hwmon = one_card(tmp_path)
    good = (hwmon / file).read_text()
    (hwmon / file).unlink() if text is None else (hwmon / file).write_text(text)
    for _ in range(3):
        assert read_sensors(root, card) == Sensors(True, None, 990_000)
    assert caplog.messages == [f"HwmonError: [npu1] {cause}"]

    (hwmon / file).write_text(good)
    assert read_sensors(root, card).temperature_millicelsius == 54_000
    (hwmon / file).write_text("again")
    read_sensors(root, card)
    assert caplog.messages[1:] == ["HwmonError: [npu1] Unexpected value format: temp1 again"]


def test_a_card_that_was_pulled_out_is_not_alive(tmp_path: Path) -> None:
    root, card, hwmon = one_card(tmp_path)
    (root / "sys/class/npu_mgmt/npu1_mgmt").unlink()
    hwmon.rename(hwmon.with_name("gone"))
    assert read_sensors(root, card) == Sensors(False, None, None)


def test_a_reading_just_below_zero_is_no_power(tmp_path: Path) -> None:
    root, card, hwmon = one_card(tmp_path)
    (hwmon / "power6_average").write_text("-12")
    assert read_sensors(root, card).power_microwatts == 0


def test_a_kind_is_read_by_number_with_its_labels(tmp_path: Path) -> None:
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
    assert read(tmp_path, Kind.TEMPERATURE) == (Reading("NE", -2), Reading("10", 3))
    assert read(tmp_path, Kind.VOLTAGE) == (Reading("0", 800),)
    assert read(tmp_path, Kind.CURRENT) == ()


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
