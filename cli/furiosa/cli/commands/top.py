"""`furiosactl top`: how much of each NPU is used, over and over. Source: furiosactl reference 7."""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Final

from furiosa.cli.args import Commands, Format, add_command, add_format
from furiosa.cli.broker import Broker, Connect
from furiosa.cli.commands import monitor
from furiosa.cli.commands.report import announce
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.render.json_ import json_text
from furiosa.cli.render.table import printable
from furiosa.cli.render.times import nanoseconds
from furiosa.cli.render.values import or_missing
from furiosa.cli.render.yaml_ import yaml_text
from furiosa.cli.terminal import Terminal
from furiosa.common.views import UtilizationView

NOTES: Final = (
    "NOTE: furiosa top is under development. Usage and output formats may change.",
    "Please enter Ctrl+C to stop.",
)
HEADER: Final = (
    "Datetime                        PID       Device        NPU(%)   Comp(%)   I/O(%)   Command"
)
_LONGEST: Final = 60_000  # ms: what a broker measures in one go


@dataclass(frozen=True, slots=True)
class Use:
    """Of a device file over the window before `datetime`; percentages have two decimals."""

    datetime: str
    pid: int
    device: str
    npu: str
    comp: str
    io: str
    command: str

    @property
    def line(self) -> str:
        """On the published grid."""
        return (
            f"{self.datetime:30}  {self.pid or '-':<8}  {self.device:12}  {self.npu:>6}"
            f"   {self.comp:>7}   {self.io:>6}   {printable(self.command)}"
        )


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.add_argument(
        "--interval",
        metavar="MS",
        type=_interval,
        default=1000,
        help=f"milliseconds from one line to the next, 1 to {_LONGEST} (default: 1000)",
    )
    parser.add_argument(
        "--count", metavar="N", type=_count, help="stop after so many intervals (default: Ctrl+C)"
    )
    parser.add_argument("--tui", action="store_true", help="the same as `furiosactl monitor`")
    add_format(parser)
    parser.set_defaults(run=_run)


def _interval(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to {_LONGEST} milliseconds")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of intervals")
    return int(text)


def _run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    form = Format(args.format)
    if args.tui:
        if args.count is not None or form is not Format.TABLE:
            terminal.say("furiosactl: --tui goes with neither --count nor --format")
            return ExitCode.USAGE
        return monitor.run(args, terminal, connect)
    with closing(connect(args.broker)) as broker:
        announce(broker.origin, form, terminal)
        if form is Format.TABLE:
            for note in NOTES:
                terminal.say(note)
            terminal.out.write(f"{HEADER}\n")
            terminal.out.flush()
        for rows in _windows(broker, args.interval, args.count, terminal):
            terminal.out.write(_text(rows, form))
            terminal.out.flush()
    return ExitCode.OK


def _windows(
    broker: Broker, interval: int, count: int | None, terminal: Terminal
) -> Iterator[tuple[Use, ...]]:
    for _ in itertools.count() if count is None else range(count):
        if not terminal.is_heard:  # with nothing to write, nothing else would tell
            raise BrokenPipeError
        yield uses(broker.utilization(interval))


def uses(found: Iterable[UtilizationView]) -> tuple[Use, ...]:
    return tuple(map(_use, found))


def _use(view: UtilizationView) -> Use:
    comp, io = round(100 * view.computation_fraction, 2), 0.0
    if view.computation_fraction or view.io_fraction:
        io = 100 - comp  # rounded each for itself, they would not add up
    return Use(
        datetime=nanoseconds(view.observed_at_ns),
        pid=view.pid,
        device=str(view.device_file),
        npu=f"{100 * view.npu_fraction:.2f}",
        comp=f"{comp:.2f}",
        io=f"{io:.2f}",
        command=or_missing(view.command_line),
    )


def _text(rows: tuple[Use, ...], form: Format) -> str:
    match form:
        case Format.TABLE:
            return "".join(f"{row.line}\n" for row in rows)
        case Format.JSON:
            return json_text([asdict(row) for row in rows])
        case Format.YAML:
            return "---\n" + yaml_text([asdict(row) for row in rows])
