"""`furiosactl ps`: processes that hold a device file now. Source: furiosactl reference 6 and 8."""

import argparse
from dataclasses import dataclass
from typing import Any, Final

from furiosa.cli.args import Commands, add_command, add_format
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import Report, reporting
from furiosa.cli.render import Column, Table, or_missing
from furiosa.common.views import ProcessView

_COLUMNS: Final = (Column("NPU"), Column("PID"), Column("CMD"))


@dataclass(frozen=True, slots=True)
class ProcessRow:
    npu: str  # the device file, not the card
    pid: int  # 0: a client on another machine
    cmd: str
    remote: str  # its address
    is_foreign: bool  # it holds the file without a lease

    @property
    def cells(self) -> tuple[str, str, str]:
        if self.remote:
            return self.npu, "-", f"{self.cmd} ({self.remote})"
        return self.npu, str(self.pid), self.cmd

    @property
    def document(self) -> dict[str, Any]:
        """The published keys, and behind them what is special."""
        published: dict[str, Any] = {"npu": self.npu, "pid": self.pid, "cmd": self.cmd}
        remote = {"remote": self.remote} if self.remote else {}
        foreign = {"foreign": "true"} if self.is_foreign else {}
        return published | remote | foreign


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_format(parser)
    parser.set_defaults(run=reporting(_report))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.processes())


def report(processes: tuple[ProcessView, ...]) -> Report:
    """By device file name as text, then by process."""
    rows = sorted(map(row, processes), key=lambda row: (row.npu, row.pid, row.remote))
    return Report(
        Table(_COLUMNS, tuple(row.cells for row in rows)),
        tuple(row.document for row in rows),
        tuple(f"pid {row.pid} holds {row.npu} without a lease" for row in rows if row.is_foreign),
    )


def row(process: ProcessView) -> ProcessRow:
    return ProcessRow(
        npu=str(process.device_file),
        pid=process.pid,
        cmd=or_missing(process.command_line),
        remote=process.remote,
        is_foreign=not process.lease_id,
    )
