"""Every card and what it says about itself. Source: furiosactl reference 4 and 8."""

from __future__ import annotations

from furiosa.cli.render.table import Align, Column, Table
from furiosa.cli.render.values import celsius, or_missing, watts
from furiosa.cli.tables.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

    from furiosa.common.views import DeviceView

_COLUMNS: Final = {  # by published key, in the published order
    "dev_name": Column("NPU"),
    "product_name": Column("Name"),
    "device_uuid": Column("UUID"),
    "device_sn": Column("S/N"),
    "firmware": Column("Firmware"),
    "temperature": Column("Temp.", Align.RIGHT),
    "power": Column("Power"),
    "pci_bdf": Column("PCI-BDF"),
    "pci_dev": Column("PCI-DEV"),
}
_ONLY_FULL: Final = {"device_uuid", "device_sn", "pci_dev"}


def report(devices: Iterable[DeviceView], *, full: bool) -> Report:
    devices = sorted(devices, key=lambda device: device.index)
    rows = [row(device) for device in devices]
    keys = [key for key in _COLUMNS if full or key not in _ONLY_FULL]
    return Report(
        Table(
            tuple(_COLUMNS[key] for key in keys),
            tuple(tuple(cells[key] for key in keys) for cells in rows),
        ),
        tuple(
            {**cells, "emulated": "true"} if device.origin.value == "emulated" else cells
            for device, cells in zip(devices, rows, strict=True)
        ),
    )


def row(device: DeviceView) -> Mapping[str, str]:
    """By key of _COLUMNS."""
    return {
        "dev_name": device.name,
        "product_name": device.architecture.value,
        "device_uuid": or_missing(device.uuid),
        "device_sn": or_missing(device.serial_number),
        "firmware": or_missing(device.firmware_version),
        "temperature": celsius(device.temperature_millicelsius),
        "power": watts(device.power_microwatts),
        "pci_bdf": or_missing(device.pci_bdf),
        "pci_dev": or_missing(device.pci_dev),
    }
