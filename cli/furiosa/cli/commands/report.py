"""What a command found, and how it is shown."""

import argparse
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from furiosa.cli.args import Format
from furiosa.cli.broker import Broker, Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.render import Table, draw, json_text, yaml_text
from furiosa.cli.terminal import Terminal
from furiosa.common.views import Origin

Run = Callable[[argparse.Namespace, Terminal, Connect], ExitCode]


@dataclass(frozen=True, slots=True)
class Report:
    """The same facts for people and for programs. Notes say what the columns of the table cannot."""

    table: Table
    document: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()


def reporting(report: Callable[[argparse.Namespace, Broker], Report]) -> Run:
    """A command that asks the broker and prints one report, as `--format` says."""

    def run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
        with closing(connect(args.broker)) as broker:
            found = report(args, broker)
            origin = broker.origin
        form = Format(args.format)
        announce(origin, form, terminal)
        show(found, form, terminal)
        return ExitCode.OK

    return run


def announce(origin: Origin, form: Format, terminal: Terminal) -> None:
    """Say what a table does not: that its cards are virtual."""
    if form is Format.TABLE and origin is Origin.EMULATED:
        terminal.say("furiosactl: these cards are emulated")


def show(report: Report, form: Format, terminal: Terminal) -> None:
    terminal.out.write(_text(report, form, terminal.is_bold))
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
