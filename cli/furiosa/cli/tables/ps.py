"""Processes that hold a device file now. Source: furiosactl reference 6 and 8."""

from __future__ import annotations

from furiosa.cli.render.table import Column, Table
from furiosa.cli.render.values import container, or_missing
from furiosa.cli.tables.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

    from furiosa.common.views import LeaseView, ProcessView

    Leases = Mapping[str, LeaseView]  # by id

_COLUMNS: Final = (Column("NPU"), Column("PID"), Column("CMD"))
_WIDE: Final = (Column("LEASE"), Column("TENANT"), Column("CONTAINER"), Column("POD"))
_NONE: Final = "-"


class ProcessRow:
    __slots__ = ("cmd", "is_foreign", "npu", "pid", "remote", "wide")

    def __init__(self, process: ProcessView, leases: Leases | None) -> None:
        self.npu = str(process.device_file)  # not the card
        self.pid = process.pid  # 0: a client on another machine
        self.cmd = or_missing(process.command_line)
        self.remote = process.remote  # its address
        self.is_foreign = not process.lease_id  # it holds the file without a lease
        # further columns; what is not there is empty
        self.wide = None if leases is None else _wide(process, leases.get(process.lease_id))

    @property
    def cells(self) -> tuple[str, ...]:
        wide = () if self.wide is None else tuple(text or _NONE for text in self.wide.values())
        if self.remote:
            return self.npu, _NONE, f"{self.cmd} ({self.remote})", *wide
        return self.npu, str(self.pid), self.cmd, *wide

    @property
    def document(self) -> dict[str, Any]:
        """The published keys, and behind them what is special."""
        published = {"npu": self.npu, "pid": self.pid, "cmd": self.cmd}
        remote = {"remote": self.remote} if self.remote else {}
        foreign = {"foreign": "true"} if self.is_foreign else {}
        return {**published, **remote, **foreign, **(self.wide or {})}


def report(processes: Iterable[ProcessView], leases: Leases | None = None) -> Report:
    """By device file name as text, then by process. `leases`: for the wide form."""
    rows = sorted(
        (ProcessRow(process, leases) for process in processes),
        key=lambda row: (row.npu, row.pid, row.remote),
    )
    columns = _COLUMNS if leases is None else (*_COLUMNS, *_WIDE)
    return Report(
        Table(columns, tuple(row.cells for row in rows)),
        tuple(row.document for row in rows),
        tuple(f"pid {row.pid} holds {row.npu} without a lease" for row in rows if row.is_foreign),
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
