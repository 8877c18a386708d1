"""`furiosactl version`. No exact line is published; ours is the program's name and version."""

import argparse

from furiosa.cli.args import Commands, add_command
from furiosa.cli.broker import Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    from importlib import metadata  # 20 ms that only this command needs

    terminal.out.write(f"furiosactl {metadata.version('furiosa-broker')}\n")
    return ExitCode.OK
