"""`furiosactl unreserve`: end a reservation that its manager has forgotten."""

import argparse

from furiosa.cli.args import Commands, add_command
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.add_argument(
        "reservation", metavar="RESERVATION", help="as `furiosactl reserved` shows it"
    )
    parser.set_defaults(run=acting(_act))


def _act(args: argparse.Namespace, broker: Broker) -> str:
    broker.cancel_reservation(args.reservation)
    return f"{args.reservation} is over"
