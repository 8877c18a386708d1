"""`furiosactl leases`: who holds what, until when, and who waits. Not in the published tool."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from furiosa.cli.args import Commands, add_command, add_format, add_watch
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import reporting
from furiosa.cli.render.table import Align, Column, Table
from furiosa.cli.render.times import moment, span
from furiosa.cli.render.values import container
from furiosa.cli.tables.report import Report
from furiosa.common.views import Container, LeaseOverview, LeaseView, OwnerView, WaiterView

_NONE: Final = "-"

_LEASES: Final = (
    Column("LEASE"),
    Column("DEVICE"),
    Column("STATE"),
    Column("TENANT"),
    Column("PRIO", Align.RIGHT),
    Column("PID"),
    Column("COMMAND/POD"),
    Column("HELD", Align.RIGHT),
    Column("ENDS"),
)
_WAITERS: Final = (
    Column("POS", Align.RIGHT),
    Column("DEVICE"),
    Column("TENANT"),
    Column("PRIO", Align.RIGHT),
    Column("PID"),
    Column("COMMAND/POD"),
    Column("WAITS", Align.RIGHT),
    Column("GIVES UP"),
    Column("REASON"),
)


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.add_argument(
        "--waiting", action="store_true", help="show the requests that wait instead"
    )
    add_watch(parser)
    add_format(parser)
    parser.set_defaults(run=reporting(_report, _watch))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.overview(), waiting=args.waiting, now=time.time())


@contextmanager
def _watch(args: argparse.Namespace, broker: Broker) -> Iterator[Iterator[Report]]:
    with broker.watch_leases() as states:
        yield (report(state, waiting=args.waiting, now=time.time()) for state in states)


def report(overview: LeaseOverview, *, waiting: bool, now: float) -> Report:
    """`now` is seconds since the epoch."""
    if waiting:
        return Report(
            Table(_WAITERS, tuple(_waiter_cells(waiter, now) for waiter in overview.waiters)),
            tuple(map(_waiter_document, overview.waiters)),
        )
    count = len(overview.waiters)
    asked = "1 request waits" if count == 1 else f"{count} requests wait"
    return Report(
        Table(_LEASES, tuple(_lease_cells(lease, now) for lease in overview.leases)),
        tuple(map(_lease_document, overview.leases)),
        (f"{asked}, see `furiosactl leases --waiting`",) if count else (),
    )


def _lease_cells(lease: LeaseView, now: float) -> tuple[str, ...]:
    return (
        lease.id,
        _files(lease),
        f"{lease.state.value} ({lease.cause})" if lease.cause else lease.state.value,
        lease.tenant or _NONE,
        str(lease.priority),
        _pid(lease.owner),
        _command(lease.owner),
        span(now - lease.granted_at),
        _NONE if lease.ends_at is None else f"in {span(lease.ends_at - now)}",
    )


def _waiter_cells(waiter: WaiterView, now: float) -> tuple[str, ...]:
    return (
        str(waiter.position),
        waiter.device_spec,
        waiter.tenant or _NONE,
        str(waiter.priority),
        _pid(waiter.owner),
        _command(waiter.owner),
        span(now - waiter.since),
        _NONE if waiter.deadline is None else f"in {span(waiter.deadline - now)}",
        waiter.reason or _NONE,
    )


def _files(lease: LeaseView) -> str:
    return ", ".join(map(str, lease.device_files))


def _pid(owner: OwnerView) -> str:
    return str(owner.pid) if owner.pid else _NONE


def _command(owner: OwnerView) -> str:
    """Who it is: the command line, and where it runs if that is elsewhere."""
    where = owner.remote
    if owner.container is not None:
        pod = owner.container.pod_uid
        where = f"pod {pod}" if pod else container(owner.container.runtime, owner.container.id)
    command = owner.command_line or _NONE
    return f"{command} ({where})" if where else command


def _lease_document(lease: LeaseView) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "devices": list(map(str, lease.device_files)),
        "state": lease.state.value,
        "cause": lease.cause,
        "tenant": lease.tenant,
        "priority": lease.priority,
        **_owner_document(lease.owner),
        "granted_at": moment(lease.granted_at),
        "ends_at": moment(lease.ends_at),
    }


def _waiter_document(waiter: WaiterView) -> dict[str, Any]:
    return {
        "position": waiter.position,
        "device": waiter.device_spec,
        "tenant": waiter.tenant,
        "priority": waiter.priority,
        **_owner_document(waiter.owner),
        "since": moment(waiter.since),
        "deadline": moment(waiter.deadline),
        "reason": waiter.reason,
        "session": waiter.session,
    }


def _owner_document(owner: OwnerView) -> dict[str, Any]:
    return {
        "pid": owner.pid,
        "uid": owner.uid,
        "cmd": owner.command_line,
        "container": None if owner.container is None else _container_document(owner.container),
        "remote": owner.remote,
        "subject": owner.subject,
    }


def _container_document(container: Container) -> dict[str, str]:
    return {"runtime": container.runtime, "id": container.id, "pod_uid": container.pod_uid}
