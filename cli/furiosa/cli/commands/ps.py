"""`furiosactl ps`: processes that hold a device file now. Source: furiosactl reference 6 and 8."""

import argparse
from dataclasses import asdict, dataclass
from typing import Final

from furiosa.cli.args import Commands, add_command, add_format
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import Report, reporting
from furiosa.cli.render import Column, Table, or_missing
from furiosa.common.views import ProcessView

_COLUMNS: Final = (Column("NPU"), Column("PID"), Column("CMD"))


@dataclass(frozen=True, slots=True)
class ProcessRow:
    npu: str  # the device file, not the card
    pid: int
    cmd: str


def add_parser(commands: "Commands[argparse.ArgumentParser]", text: str) -> None:
    parser = add_command(commands, "ps", text)
    add_format(parser)
    parser.set_defaults(run=reporting(_report))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.processes())


def report(processes: tuple[ProcessView, ...]) -> Report:
    """By device file name as text, then by process."""
    rows = sorted(map(row, processes), key=lambda row: (row.npu, row.pid))
    return Report(
        Table(_COLUMNS, tuple((row.npu, str(row.pid), row.cmd) for row in rows)),
        tuple(map(asdict, rows)),
    )


def row(process: ProcessView) -> ProcessRow:
    return ProcessRow(str(process.device_file), process.pid, or_missing(process.command_line))
