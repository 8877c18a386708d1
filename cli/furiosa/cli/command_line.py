"""The command line of `furiosactl`.

Source: furiosactl reference 2 (help text), 3 to 6 (tables), 8 (structured output).
"""

import argparse
import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from furiosa.cli.args import BROKER_HELP, add_broker
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.terminal import Terminal

if TYPE_CHECKING:
    from furiosa.cli.broker import Connect

_GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {  # in the order of the help text
    "Basic Commands": {
        "version": ("version", "Print the furiosactl version information"),
        "info": ("info", "Show information one or many NPU(s)"),
        "list": ("list_", "Display NPU device list"),
        "ps": ("ps", "Show processes that hold NPU devices"),
        "top": ("top", "Show the utilization of NPU devices (experimental)"),
        "monitor": ("monitor", "Show cards, leases and waiters live"),
    },
    "Broker Commands": {
        "leases": ("leases", "Show leases, and who waits for one"),
        "revoke": ("revoke", "Take a lease away"),
        "cordon": ("cordon", "Grant nothing of an NPU any more"),
        "uncordon": ("uncordon", "Grant leases of an NPU again"),
        "drain": ("drain", "Cordon an NPU and take its leases away"),
        "undrain": ("uncordon", "The same as uncordon"),
        "reserved": ("reserved", "Show cores that are kept for containers"),
        "unreserve": ("unreserve", "End a reservation of cores"),
        "cdi": ("cdi", "Offer NPUs to container runtimes"),
        "config": ("config", "Check the broker's configuration files"),
    },
    "Virtual Card Commands": {
        "emulate": ("emulate", "Make virtual NPUs fail, and well again"),
    },
}
_COMMANDS: Final = {name: entry for group in _GROUPS.values() for name, entry in group.items()}


class _Parser(argparse.ArgumentParser):
    """Top level only: its help is the published text, not argparse's."""

    def format_help(self) -> str:
        commands = "".join(
            f"{title}:\n"
            + "".join(f"  {name:<11}{text}\n" for name, (_, text) in group.items())
            + "\n"
            for title, group in _GROUPS.items()
        )
        return (
            "furiosactl controls the FURIOSA NPU.\n\n"
            "Find more information at: https://furiosa.ai/\n\n"
            f"{commands}"
            f"Options:\n  --broker ADDRESS  {BROKER_HELP}\n\n"
            "Usage:\n  furiosactl COMMAND\n"
        )


def build_parser(names: Collection[str] = _COMMANDS.keys()) -> argparse.ArgumentParser:
    """Of the commands with these names: the module of each is imported here."""
    parser = _Parser(prog="furiosactl", allow_abbrev=False)
    add_broker(parser, default=None)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=argparse.ArgumentParser)
    for name in names:
        module, text = _COMMANDS[name]
        command = importlib.import_module(f"furiosa.cli.commands.{module}")
        command.add_parser(commands, name, text)
    return parser


def run(argv: Sequence[str] | None, connect: "Connect | None" = None) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()
    try:
        code = _run(sys.argv[1:] if argv is None else argv, terminal, connect)
        terminal.out.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.BROKEN_PIPE
    except Exception as exc:
        if not _is_told(exc):
            raise
        if isinstance(exc, OSError) and not terminal.is_heard:  # a closed terminal is an I/O error
            code = ExitCode.BROKEN_PIPE
        else:
            terminal.say(f"furiosactl: {exc}")
            code = ExitCode.FAILURE
    terminal.finish()
    return code


def _is_told(exc: Exception) -> bool:
    """Whether it is a sentence for people; anything else is a defect."""
    from furiosa.common.errors import FuriosaError  # on use: it takes longer than a short command

    return isinstance(exc, (FuriosaError, OSError, ValueError))


def _run(argv: Sequence[str], terminal: Terminal, connect: "Connect | None") -> ExitCode:
    # only what may be meant: the modules of all commands take longer than most commands
    asked = [name for name in _COMMANDS if name in argv]
    with starting():
        parser = build_parser(asked or (_COMMANDS.keys() if argv else ()))
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode.OK if not exc.code else ExitCode.USAGE
    if "run" not in args:
        terminal.out.write(parser.format_help())
        return ExitCode.OK
    if connect is None:
        from furiosa.cli.broker import connect
    code: ExitCode = args.run(args, terminal, connect)
    return code
