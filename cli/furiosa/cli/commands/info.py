"""`furiosactl info`: every card and what it says about itself. Source: furiosactl reference 4 and 8."""

import argparse
from dataclasses import asdict, dataclass
from typing import Final

from furiosa.cli.args import Commands, add_command, add_format
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import Report, reporting
from furiosa.cli.render import Align, Column, Table, celsius, or_missing, watts
from furiosa.common.views import DeviceView, Origin

_HINT: Final = (
    "A card that is mounted but not shown needs its kernel driver: install it first. Without a card, "
    "the broker shows virtual ones and says so."
)


@dataclass(frozen=True, slots=True)
class InfoRow:
    """Field names and their order are the published keys."""

    dev_name: str
    product_name: str
    device_uuid: str
    device_sn: str
    firmware: str
    temperature: str
    power: str
    pci_bdf: str
    pci_dev: str


_COLUMNS: Final = {  # field -> column
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


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text, epilog=_HINT)
    parser.add_argument(
        "--full", action="store_true", help="also show UUID, serial number and PCI device number"
    )
    add_format(parser)
    parser.set_defaults(run=reporting(_report))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.devices(), full=args.full)


def report(devices: tuple[DeviceView, ...], *, full: bool) -> Report:
    devices = tuple(sorted(devices, key=lambda device: device.index))
    rows = [asdict(row(device)) for device in devices]
    fields = [field for field in _COLUMNS if full or field not in _ONLY_FULL]
    return Report(
        Table(
            tuple(_COLUMNS[field] for field in fields),
            tuple(tuple(cells[field] for field in fields) for cells in rows),
        ),
        tuple(
            cells | ({"emulated": "true"} if device.origin is Origin.EMULATED else {})
            for device, cells in zip(devices, rows, strict=True)
        ),
    )


def row(device: DeviceView) -> InfoRow:
    return InfoRow(
        dev_name=device.name,
        product_name=device.architecture.value,
        device_uuid=or_missing(device.uuid),
        device_sn=or_missing(device.serial_number),
        firmware=or_missing(device.firmware_version),
        temperature=celsius(device.temperature_millicelsius),
        power=watts(device.power_microwatts),
        pci_bdf=or_missing(device.pci_bdf),
        pci_dev=or_missing(device.pci_dev),
    )
