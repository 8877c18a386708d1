"""A command that changes something and says what it did."""

import argparse
from collections.abc import Callable
from contextlib import closing

from furiosa.cli.broker import Broker, Connect
from furiosa.cli.commands.report import Run
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal


def acting(act: Callable[[argparse.Namespace, Broker], str]) -> Run:
    """`act` asks the broker and returns the sentence to print."""

    def run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
        with closing(connect(args.broker)) as broker:
            said = act(args, broker)
        terminal.out.write(f"{said}\n")
        return ExitCode.OK

    return run
