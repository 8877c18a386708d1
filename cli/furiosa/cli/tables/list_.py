"""Device files, and which cores are in use. Source: furiosactl reference 5 and 8."""

from __future__ import annotations

from furiosa.cli.render.table import Column, Table
from furiosa.cli.tables.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from furiosa.common.views import DeviceView

_COLUMNS: Final = (Column("NPU"), Column("Cores"), Column("DEVFILES"))


class ListRow:
    __slots__ = ("cores", "devfiles", "npu", "unfit")

    def __init__(self, device: DeviceView) -> None:
        self.npu = device.name
        self.cores = sorted((core.core, str(core)) for core in device.cores)  # number, status
        files = sorted(device.device_files, key=lambda file: file.sort_key)
        self.devfiles = [str(file) for file in files]
        availability = device.availability.value
        # of a card that grants nothing: the state and why
        self.unfit = None if availability == "available" else (availability, device.reason)


def report(devices: Iterable[DeviceView]) -> Report:
    rows = [ListRow(device) for device in sorted(devices, key=lambda device: device.index)]
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
                "devfiles": row.devfiles,
            }
            | ({"availability": row.unfit[0], "reason": row.unfit[1]} if row.unfit else {})
            for row in rows
        ),
        tuple(f"{row.npu} is {': '.join(filter(None, row.unfit))}" for row in rows if row.unfit),
    )
