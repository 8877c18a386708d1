"""`furiosactl uncordon` and `undrain`: leases of a card are granted again."""

import argparse

from furiosa.cli.args import Commands, add_command, add_npu
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    add_npu(parser)
    parser.set_defaults(run=acting(_act))


def _act(args: argparse.Namespace, broker: Broker) -> str:
    broker.uncordon(args.npu)
    return f"npu{args.npu} is no longer cordoned"
