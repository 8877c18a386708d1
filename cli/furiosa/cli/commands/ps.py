"""`furiosactl ps`: processes that hold a device file now. Source: furiosactl reference 6 and 8."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from furiosa.cli.args import Commands, add_command, add_format, add_watch
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import Report, reporting
from furiosa.cli.render import Column, Table, container, or_missing
from furiosa.common.views import LeaseView, ProcessView

_COLUMNS: Final = (Column("NPU"), Column("PID"), Column("CMD"))
_WIDE: Final = tuple(map(Column, ("LEASE", "TENANT", "CONTAINER", "POD")))
_NONE: Final = "-"

Leases = Mapping[str, LeaseView]  # by id


@dataclass(frozen=True, slots=True)
class ProcessRow:
    npu: str  # the device file, not the card
    pid: int  # 0: a client on another machine
    cmd: str
    remote: str  # its address
    is_foreign: bool  # it holds the file without a lease
    wide: Mapping[str, str] | None  # further columns; what is not there is empty

    @property
    def cells(self) -> tuple[str, ...]:
        wide = () if self.wide is None else tuple(text or _NONE for text in self.wide.values())
        if self.remote:
            return self.npu, _NONE, f"{self.cmd} ({self.remote})", *wide
        return self.npu, str(self.pid), self.cmd, *wide

    @property
    def document(self) -> dict[str, Any]:
        """The published keys, and behind them what is special."""
        published: dict[str, Any] = {"npu": self.npu, "pid": self.pid, "cmd": self.cmd}
        remote = {"remote": self.remote} if self.remote else {}
        foreign = {"foreign": "true"} if self.is_foreign else {}
        return {**published, **remote, **foreign, **(self.wide or {})}


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.add_argument(
        "--wide", action="store_true", help="also show lease, tenant, container and pod"
    )
    add_watch(parser)
    add_format(parser)
    parser.set_defaults(run=reporting(_report, _watch))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.processes(), _leases(args, broker))


@contextmanager
def _watch(args: argparse.Namespace, broker: Broker) -> Iterator[Iterator[Report]]:
    with broker.watch_processes() as snapshots:
        yield (report(snapshot.items, _leases(args, broker)) for snapshot in snapshots)


def _leases(args: argparse.Namespace, broker: Broker) -> Leases | None:
    return {lease.id: lease for lease in broker.overview().leases} if args.wide else None


def report(processes: tuple[ProcessView, ...], leases: Leases | None = None) -> Report:
    """By device file name as text, then by process. `leases`: for the wide form."""
    rows = sorted(
        (row(process, leases) for process in processes),
        key=lambda row: (row.npu, row.pid, row.remote),
    )
    columns = _COLUMNS if leases is None else (*_COLUMNS, *_WIDE)
    return Report(
        Table(columns, tuple(row.cells for row in rows)),
        tuple(row.document for row in rows),
        tuple(f"pid {row.pid} holds {row.npu} without a lease" for row in rows if row.is_foreign),
    )


def row(process: ProcessView, leases: Leases | None) -> ProcessRow:
    return ProcessRow(
        npu=str(process.device_file),
        pid=process.pid,
        cmd=or_missing(process.command_line),
        remote=process.remote,
        is_foreign=not process.lease_id,
        wide=None if leases is None else _wide(process, leases.get(process.lease_id)),
    )


def _wide(process: ProcessView, lease: LeaseView | None) -> Mapping[str, str]:
    """`lease` may have ended meanwhile."""
    where = None if lease is None else lease.owner.container
    return {
        "lease": process.lease_id,
        "tenant": "" if lease is None else lease.tenant,
        "container": "" if where is None or not where.id else container(where.runtime, where.id),
        "pod": "" if where is None else where.pod_uid,
    }
