"""`furiosactl list`: its command line. What it shows: `furiosa.cli.tables.list_`."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from furiosa.cli.args import Commands, add_command, add_format, add_watch
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import reporting
from furiosa.cli.tables.list_ import report
from furiosa.cli.tables.report import Report


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
