"""`furiosactl version`. No exact line is published; ours is the program's name and version."""

from typing import TYPE_CHECKING

from furiosa.cli.args import Commands, add_command
from furiosa.cli.exitcodes import ExitCode
from furiosa.common.build import VERSION

if TYPE_CHECKING:
    import argparse

    from furiosa.cli.broker import Connect
    from furiosa.cli.terminal import Terminal


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.set_defaults(run=run)


def run(args: "argparse.Namespace", terminal: "Terminal", connect: "Connect") -> ExitCode:
    terminal.out.write(f"furiosactl {VERSION.version}\n")
    return ExitCode.OK
