"""`furiosactl emulate`: make virtual cards fail, see which do, and let them be well again."""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from furiosa.cli.args import Commands, add_command, add_format, device_file, duration, npu
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting
from furiosa.cli.commands.report import reporting
from furiosa.cli.render.table import Align, Column, Table
from furiosa.cli.render.times import moment, span
from furiosa.cli.tables.report import Report
from furiosa.common.faults import Dead, DmaError, Fault, FaultView, Hot, Hung, SlowDma
from furiosa.common.names import ALL, DeviceFile

_COLUMNS: Final = (
    Column("DEVICE"),
    Column("FAULT"),
    Column("DETAIL"),
    Column("ENDS", Align.RIGHT),
)


@dataclass(frozen=True, slots=True)
class _Action:
    """The options of one kind of fault, and the fault they describe."""

    text: str
    make: Callable[[argparse.Namespace], Fault]
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None


def _add_heat(parser: argparse.ArgumentParser) -> None:
    text = "how hot (default: 99)"
    parser.add_argument("--celsius", metavar="N", type=int, default=99, help=text)


def _add_errors(parser: argparse.ArgumentParser) -> None:
    text = "the next N runs of each device file (default: no end to it)"
    parser.add_argument("--count", metavar="N", type=int, default=0, help=text)
    text = "one run in N (default: each)"
    parser.add_argument("--every", metavar="N", type=int, default=1, help=text)


def _add_delay(parser: argparse.ArgumentParser) -> None:
    text = "how much longer each run takes (default: 5ms)"
    parser.add_argument("--delay", metavar="TIME", type=duration, default=5e-3, help=text)


_ACTIONS: Final[dict[type[Fault], _Action]] = {
    Dead: _Action("The card does not answer", lambda args: Dead()),
    Hot: _Action("The card is too hot", lambda args: Hot(args.celsius), _add_heat),
    Hung: _Action("The next run never ends", lambda args: Hung()),
    DmaError: _Action(
        "Runs fail, because their inputs do not reach the card",
        lambda args: DmaError(args.every, args.count),
        _add_errors,
    ),
    SlowDma: _Action(
        "Transfers take longer", lambda args: SlowDma(round(args.delay * 1e9)), _add_delay
    ),
}


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.set_defaults(run=reporting(_report))
    add_format(parser)
    actions = parser.add_subparsers(metavar="ACTION")
    for kind, action in _ACTIONS.items():
        _add_action(actions, kind, action)
    clear = add_command(actions, "clear", "Let a card, or all of them, be well again")
    clear.add_argument("npu", metavar="NPU", nargs="?", type=npu, help="the card, e.g. npu0 or 0")
    clear.set_defaults(run=acting(_clear))
    standing = add_command(actions, "list", "Show the faults there are, as without an ACTION")
    standing.set_defaults(run=reporting(_report))
    add_format(standing)


def _add_action(
    actions: "Commands[argparse.ArgumentParser]", kind: type[Fault], action: _Action
) -> None:
    parser = add_command(actions, kind.name, action.text)
    if kind.of_cards:
        parser.add_argument("device", metavar="NPU", type=_card, help="the card, e.g. npu0 or 0")
    else:
        text = "the card, or some of its cores, e.g. npu0, npu0pe1"
        parser.add_argument("device", metavar="DEVICE", type=device_file, help=text)
    action.add_options(parser)
    text = "for how long, e.g. 30s (default: until it is cleared)"
    parser.add_argument("--for", dest="seconds", metavar="TIME", type=duration, help=text)
    parser.set_defaults(run=acting(_emulate), make=action.make)


def _card(text: str) -> DeviceFile:
    return DeviceFile(npu(text), ALL)


def _emulate(args: argparse.Namespace, broker: Broker) -> str:
    view = broker.emulate(args.device, args.make(args), args.seconds)
    detail = f" ({found})" if (found := _detail(view.fault)) else ""
    ends = "" if view.ends_at is None else f"; it ends {_end(view)}"
    return f"{view.device_file}: {view.fault.name}{detail}{ends}"


def _clear(args: argparse.Namespace, broker: Broker) -> str:
    cleared = broker.clear_faults(args.npu)
    return f"{cleared} fault{'' if cleared == 1 else 's'} cleared"


def _report(args: argparse.Namespace, broker: Broker) -> Report:
    return report(broker.faults())


def report(faults: tuple[FaultView, ...]) -> Report:
    return Report(
        Table(
            _COLUMNS,
            tuple(
                (
                    str(view.device_file),
                    view.fault.name,
                    _detail(view.fault) or "-",
                    _end(view),
                )
                for view in faults
            ),
        ),
        tuple(
            {"device": str(view.device_file), "fault": view.fault.name}
            | asdict(view.fault)
            | {"ends_at": moment(view.ends_at)}
            for view in faults
        ),
    )


def _detail(fault: Fault) -> str:
    match fault:
        case Hot(celsius):
            return f"{celsius} C"
        case DmaError(1, 0):
            return "each run"
        case DmaError(1, count):
            return f"the next {count} run{'' if count == 1 else 's'}"
        case DmaError(every, 0):
            return f"one run in {every}"
        case DmaError(every, count):
            return f"one run in {every}, {count} in all"
        case SlowDma(delay_ns):
            return f"{delay_ns / 1e6:g} ms a run"
        case _:
            return ""


def _end(view: FaultView) -> str:
    return "-" if view.ends_at is None else f"in {span(view.ends_at - time.time())}"
