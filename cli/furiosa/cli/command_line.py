"""The command line of `furiosactl`.

Source: furiosactl reference 2 (help text), 3 to 6 (tables), 8 (structured output).
"""

import argparse
from collections.abc import Sequence
from typing import Final

from furiosa.cli.args import BROKER_HELP, add_broker
from furiosa.cli.broker import Connect, connect
from furiosa.cli.commands import (
    config,
    cordon,
    drain,
    emulate,
    info,
    leases,
    list_,
    ps,
    revoke,
    top,
    uncordon,
    version,
)
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal
from furiosa.common.errors import FuriosaError

_COMMANDS: Final = {  # in the order of the help text
    "Basic Commands": {
        "version": (version, "Print the furiosactl version information"),
        "info": (info, "Show information one or many NPU(s)"),
        "list": (list_, "Display NPU device list"),
        "ps": (ps, "Show processes that hold NPU devices"),
        "top": (top, "Show the utilization of NPU devices (experimental)"),
    },
    "Broker Commands": {
        "leases": (leases, "Show leases, and who waits for one"),
        "revoke": (revoke, "Take a lease away"),
        "cordon": (cordon, "Grant nothing of an NPU any more"),
        "uncordon": (uncordon, "Grant leases of an NPU again"),
        "drain": (drain, "Cordon an NPU and take its leases away"),
        "undrain": (uncordon, "The same as uncordon"),
        "config": (config, "Check the broker's configuration files"),
    },
    "Virtual Card Commands": {
        "emulate": (emulate, "Make virtual NPUs fail, and well again"),
    },
}


class _Parser(argparse.ArgumentParser):
    """Top level only: its help is the published text, not argparse's."""

    def format_help(self) -> str:
        commands = "".join(
            f"{title}:\n"
            + "".join(f"  {name:<11}{text}\n" for name, (_, text) in group.items())
            + "\n"
            for title, group in _COMMANDS.items()
        )
        return (
            "furiosactl controls the FURIOSA NPU.\n\n"
            "Find more information at: https://furiosa.ai/\n\n"
            f"{commands}"
            f"Options:\n  --broker ADDRESS  {BROKER_HELP}\n\n"
            "Usage:\n  furiosactl COMMAND\n"
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="furiosactl", allow_abbrev=False)
    add_broker(parser, default=None)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=argparse.ArgumentParser)
    for group in _COMMANDS.values():
        for name, (command, text) in group.items():
            command.add_parser(commands, name, text)
    return parser


def run(argv: Sequence[str] | None, connect: Connect = connect) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()
    try:
        code = _run(argv, terminal, connect)
        terminal.out.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.BROKEN_PIPE
    except (FuriosaError, OSError, ValueError) as exc:
        terminal.say(f"furiosactl: {exc}")
        code = ExitCode.FAILURE
    terminal.finish()
    return code


def _run(argv: Sequence[str] | None, terminal: Terminal, connect: Connect) -> ExitCode:
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode.OK if not exc.code else ExitCode.USAGE
    if "run" not in args:
        terminal.out.write(parser.format_help())
        return ExitCode.OK
    code: ExitCode = args.run(args, terminal, connect)
    return code
