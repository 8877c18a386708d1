"""`furiosactl ps`: its command line. What it shows: `furiosa.cli.tables.ps`."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from furiosa.cli.args import Commands, add_command, add_format, add_watch
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import reporting
from furiosa.cli.tables.ps import report
from furiosa.cli.tables.report import Report
from furiosa.common.views import LeaseView


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


def _leases(args: argparse.Namespace, broker: Broker) -> Mapping[str, LeaseView] | None:
    return {lease.id: lease for lease in broker.overview().leases} if args.wide else None
