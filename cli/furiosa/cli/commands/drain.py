"""`furiosactl drain`: cordon a card and take its leases away; ends when the card is free."""

import argparse

from furiosa.cli.args import Commands, add_command, add_grace, add_npu, add_reason
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_npu(parser)
    add_grace(parser)
    add_reason(parser)
    parser.set_defaults(run=acting(_act))


def _act(args: argparse.Namespace, broker: Broker) -> str:
    revoked = broker.drain(args.npu, args.grace, args.reason)
    return f"npu{args.npu} is drained; {revoked} lease{'' if revoked == 1 else 's'} revoked"
