"""What a person can do to a virtual card by hand, in the platform's folder, and see there."""

from dataclasses import replace
from pathlib import Path

from furiosa.broker.devices import Sensors


def _classes(root: Path) -> Path:
    return root / "sys/class/npu_mgmt"


def pull_out(root: Path, npu: int) -> None:
    (_classes(root) / f"npu{npu}_mgmt").rename(_classes(root) / f"out-npu{npu}")


def put_back(root: Path, npu: int) -> None:
    (_classes(root) / f"out-npu{npu}").rename(_classes(root) / f"npu{npu}_mgmt")


def set_alive(root: Path, npu: int, value: str) -> None:
    (_classes(root) / f"npu{npu}_mgmt/alive").write_text(f"{value}\n")


def overheat(root: Path, npu: int, millicelsius: int) -> None:
    """Any temperature, also a low one."""
    bdf = (_classes(root) / f"npu{npu}_mgmt/busname").read_text().strip()
    folder = root / "sys/bus/pci/devices" / bdf / "hwmon/hwmon0"
    for label in folder.glob("temp*_label"):
        if label.read_text() == "Peak\n":
            label.with_name(label.name.replace("label", "input")).write_text(f"{millicelsius}\n")


def errors(root: Path, npu: int) -> dict[str, int]:
    """Lines of `atr_error` that count anything."""
    lines = (_classes(root) / f"npu{npu}_mgmt/atr_error").read_text().splitlines()
    counts = ((name, int(count)) for name, _, count in (line.partition(": ") for line in lines))
    return {name: count for name, count in counts if count}


def uncounted(sensors: Sensors) -> Sensors:
    """What is measured, without the errors."""
    return replace(sensors, errors={})
