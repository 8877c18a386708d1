"""`furiosactl cordon`: nothing of a card is granted any more; what is held stays."""

import argparse

from furiosa.cli.args import Commands, add_command, add_npu, add_reason
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_npu(parser)
    add_reason(parser)
    parser.set_defaults(run=acting(_act))


def _act(args: argparse.Namespace, broker: Broker) -> str:
    broker.cordon(args.npu, args.reason)
    return f"npu{args.npu} is cordoned"
