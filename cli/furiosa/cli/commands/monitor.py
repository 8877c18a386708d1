"""`furiosactl monitor`: a live view of cards, owners, leases and waiters. Not in the published tool."""

import argparse
import os
import sys
from typing import Final

from furiosa.cli.args import Commands, add_command
from furiosa.cli.broker import Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.terminal import Terminal

_SHORTEST_MS: Final = 100  # below it the view itself would be the load
_LONGEST_MS: Final = 60_000  # what the broker measures at once
_EPILOG: Final = "? shows the keys. Needs a terminal, and the extra `monitor` of the package."


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text, epilog=_EPILOG)
    parser.add_argument(
        "--interval",
        metavar="MS",
        type=interval,
        default=1000,
        help="how long each measurement of use takes, in milliseconds (default: 1000)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    """Needs `broker` and `interval` of `args`."""
    streams = (
        sys.stdin,
        terminal.out,
        terminal.err,
    )  # Textual reads the first and writes to the last
    if not all(stream is not None and stream.isatty() for stream in streams):
        terminal.say("furiosactl: monitor needs a terminal for its input and all of its output")
        return ExitCode.USAGE
    try:
        with starting():
            from furiosa.cli.monitor.app import Monitor
            from furiosa.cli.monitor.source import Source, user_name
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        terminal.say("furiosactl: monitor needs Textual: pip install 'furiosa-broker[monitor]'")
        return ExitCode.FAILURE
    address = args.broker or os.environ.get("FURIOSA_BROKER") or ""
    is_here = not address or address.startswith("unix:")
    broker = connect(args.broker)
    broker.overview()  # where only the cards are, and no broker, this says so
    source = Source(broker, max(_SHORTEST_MS, args.interval))
    app = Monitor(source, address or "this machine", user_name if is_here else str)
    try:
        code = app.run()
    finally:
        source.close()
    return ExitCode.FAILURE if code is None else code


def interval(text: str) -> int:
    """Milliseconds."""
    if not (text.isascii() and text.isdigit() and _SHORTEST_MS <= int(text) <= _LONGEST_MS):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no interval: expected milliseconds, {_SHORTEST_MS} to {_LONGEST_MS}"
        )
    return int(text)
