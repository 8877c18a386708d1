"""What a command found, and how it is shown."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Final

from furiosa.cli.args import Format
from furiosa.cli.broker import Broker, Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.render.json_ import json_text
from furiosa.cli.render.table import draw
from furiosa.cli.render.yaml_ import yaml_text
from furiosa.cli.tables.report import Report
from furiosa.cli.terminal import Terminal
from furiosa.common.views import Origin

Run = Callable[[argparse.Namespace, Terminal, Connect], ExitCode]


_CLEAR: Final = "\x1b[H\x1b[J"


def reporting(
    report: Callable[[argparse.Namespace, Broker], Report],
    watch: Callable[[argparse.Namespace, Broker], AbstractContextManager[Iterator[Report]]]
    | None = None,
) -> Run:
    """A command that asks the broker and prints one report, as `--format` says; with `--watch` one after
    each change.
    """

    def run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
        form = Format(args.format)
        with closing(connect(args.broker)) as broker:
            if watch is not None and args.watch:
                announce(broker.origin, form, terminal)
                with watch(args, broker) as reports:
                    follow(reports, form, terminal)
                return ExitCode.OK
            found = report(args, broker)
            origin = broker.origin
        announce(origin, form, terminal)
        show(found, form, terminal)
        return ExitCode.OK

    return run


def follow(reports: Iterable[Report], form: Format, terminal: Terminal) -> None:
    """One after another, if it differs in what it says; on a screen each in the place of the one before."""
    last: Report | None = None
    for report in reports:
        if last is not None and report.document == last.document:
            continue
        if form is Format.YAML:
            terminal.out.write("---\n")
        elif form is Format.TABLE and terminal.is_screen:
            terminal.out.write(_CLEAR)
        elif form is Format.TABLE and last is not None:
            terminal.out.write("\n")
        show(report, form, terminal)
        terminal.out.flush()
        last = report


def announce(origin: Origin, form: Format, terminal: Terminal) -> None:
    """Say what a table does not: that its cards are virtual."""
    if form is Format.TABLE and origin is Origin.EMULATED:
        terminal.say("furiosactl: these cards are emulated")


def show(report: Report, form: Format, terminal: Terminal) -> None:
    terminal.out.write(_text(report, form, terminal.is_screen))
    if form is Format.TABLE:
        for note in report.notes:
            terminal.say(f"furiosactl: {note}")


def _text(report: Report, form: Format, bold: bool) -> str:
    match form:
        case Format.TABLE:
            return draw(report.table, bold=bold)
        case Format.JSON:
            return json_text(report.document)
        case Format.YAML:
            return yaml_text(report.document)
