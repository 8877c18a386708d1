"""`furiosactl info`: its command line. What it shows: `furiosa.cli.tables.info`."""

import argparse
from typing import Final

from furiosa.cli.args import Commands, add_command, add_format
from furiosa.cli.broker import Broker
from furiosa.cli.commands.report import reporting
from furiosa.cli.tables.info import report
from furiosa.cli.tables.report import Report

_HINT: Final = (
    "A card that is mounted but not shown needs its kernel driver: install it first. Without a card, "
    "the broker shows virtual ones and says so."
)


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text, epilog=_HINT)
    parser.add_argument(
        "--full", action="store_true", help="also show UUID, serial number and PCI device number"
    )
    add_format(parser)
    parser.set_defaults(run=reporting(_report))


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.devices(), full=args.full)
