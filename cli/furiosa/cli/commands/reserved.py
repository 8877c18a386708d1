"""`furiosactl reserved`: which cores are kept for which container. Not in the published tool."""

import argparse
import time
from typing import Any, Final

from furiosa.cli.args import Commands, add_command, add_format
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import reporting
from furiosa.cli.render.table import Align, Column, Table
from furiosa.cli.render.times import moment, span
from furiosa.cli.render.values import container
from furiosa.cli.tables.report import Report
from furiosa.common.reservations import ReservationView

_NONE: Final = "-"
_COLUMNS: Final = (
    Column("RESERVATION"),
    Column("DEVICE"),
    Column("STATE"),
    Column("MANAGER"),
    Column("FOR"),
    Column("POD/CONTAINER"),
    Column("PIDS"),
    Column("AGE", Align.RIGHT),
)


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_format(parser)
    parser.set_defaults(run=reporting(_report))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.reservations(), now=time.time())


def report(reservations: tuple[ReservationView, ...], *, now: float) -> Report:
    """`now` is seconds since the epoch."""
    return Report(
        Table(_COLUMNS, tuple(_cells(each, now) for each in reservations)),
        tuple(map(_document, reservations)),
    )


def _cells(each: ReservationView, now: float) -> tuple[str, ...]:
    return (
        each.id,
        _devices(each),
        each.state.value,
        each.manager,
        each.name or each.label or _NONE,
        _whose(each),
        ", ".join(map(str, each.pids)) or _NONE,
        span(now - each.created_at),
    )


def _devices(each: ReservationView) -> str:
    return ", ".join(map(str, each.device_files))


def _whose(each: ReservationView) -> str:
    if each.container is None:
        return _NONE
    pod = each.container.pod_uid
    return f"pod {pod}" if pod else container(each.container.runtime, each.container.id)


def _document(each: ReservationView) -> dict[str, Any]:
    whose = each.container
    return {
        "reservation": each.id,
        "devices": list(map(str, each.device_files)),
        "state": each.state.value,
        "manager": each.manager,
        "name": each.name,
        "label": each.label,
        "container": None
        if whose is None
        else {"runtime": whose.runtime, "id": whose.id, "pod_uid": whose.pod_uid},
        "pids": list(each.pids),
        "created_at": moment(each.created_at),
        "grant": each.grant,
    }
