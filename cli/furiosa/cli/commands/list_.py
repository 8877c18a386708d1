"""`furiosactl list`: device files, and which cores are in use. Source: furiosactl reference 5 and 8."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from furiosa.cli.args import Commands, add_command, add_format, add_watch
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import Report, reporting
from furiosa.cli.render import Column, Table
from furiosa.common.views import Availability, DeviceView

_COLUMNS: Final = (Column("NPU"), Column("Cores"), Column("DEVFILES"))


@dataclass(frozen=True, slots=True)
class ListRow:
    npu: str
    cores: tuple[tuple[int, str], ...]  # number, status
    devfiles: tuple[str, ...]
    unfit: tuple[str, str] | None  # availability of a card that grants nothing, and why


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_watch(parser)
    add_format(parser)
    parser.set_defaults(run=reporting(_report, _watch))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.devices())


@contextmanager
def _watch(args: argparse.Namespace, broker: Broker) -> Iterator[Iterator[Report]]:
    with broker.watch_devices() as snapshots:
        yield (report(snapshot.items) for snapshot in snapshots)


def report(devices: tuple[DeviceView, ...]) -> Report:
    rows = tuple(row(device) for device in sorted(devices, key=lambda device: device.index))
    return Report(
        Table(
            _COLUMNS,
            tuple(
                (
                    row.npu,
                    ", ".join(f"{core} ({status})" for core, status in row.cores),
                    ", ".join(row.devfiles),
                )
                for row in rows
            ),
        ),
        tuple(
            {
                "npu": row.npu,
                "cores": [{"idx": core, "status": status} for core, status in row.cores],
                "devfiles": list(row.devfiles),
            }
            | ({"availability": row.unfit[0], "reason": row.unfit[1]} if row.unfit else {})
            for row in rows
        ),
        tuple(f"{row.npu} is {': '.join(filter(None, row.unfit))}" for row in rows if row.unfit),
    )


def row(device: DeviceView) -> ListRow:
    is_fit = device.availability is Availability.AVAILABLE
    files = sorted(device.device_files, key=lambda file: file.sort_key)
    return ListRow(
        npu=device.name,
        cores=tuple(sorted((core.core, str(core)) for core in device.cores)),
        devfiles=tuple(map(str, files)),
        unfit=None if is_fit else (device.availability.value, device.reason),
    )
