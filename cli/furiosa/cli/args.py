"""Sub-commands of furiosactl, and the arguments that several of them share."""

import argparse
import re
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from furiosa.common.names import DeviceFile


class Format(Enum):
    """How a result is printed; the value is what `--format` takes. TABLE is the default and has no name."""

    TABLE = ""
    JSON = "json"
    YAML = "yaml"


_NPU: Final = re.compile(r"(?:npu)?([0-9]{1,5})", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)", re.ASCII)
_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}

Commands = argparse._SubParsersAction  # argparse has no public name for it

BROKER_HELP: Final = "where the broker is: unix:/path or host:port (default: $FURIOSA_BROKER)"


def add_command(
    commands: "Commands[argparse.ArgumentParser]", name: str, text: str, *, epilog: str = ""
) -> argparse.ArgumentParser:
    """A sub-command that takes `--broker` too: people write it on either side of the name."""
    parser = commands.add_parser(
        name, help=text, description=text, epilog=epilog, allow_abbrev=False
    )
    add_broker(parser, default=argparse.SUPPRESS)  # absent here, it keeps its value from before
    return parser


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=[form.value for form in Format if form is not Format.TABLE],
        default=Format.TABLE.value,
        help="print for programs instead of a table",
    )


def add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-w", "--watch", action="store_true", help="show it again after each change"
    )


def add_npu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("npu", metavar="NPU", type=npu, help="the card, e.g. npu0 or 0")


def add_grace(parser: argparse.ArgumentParser) -> None:
    text = "how long owners may still work, e.g. 10s, 500ms, 2m (default: as the broker is set)"
    parser.add_argument("--grace", metavar="TIME", type=duration, help=text)


def add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", default="", help="shown to those concerned")


def npu(text: str) -> int:
    """Number of a card."""
    if (match := _NPU.fullmatch(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no card: expected e.g. npu0 or 0")
    return int(match[1])


def device_file(text: str) -> "DeviceFile":
    """A card may be a number here, too."""
    from furiosa.common.errors import BadDeviceFile
    from furiosa.common.names import ALL, DeviceFile

    if _NPU.fullmatch(text):
        return DeviceFile(npu(text), ALL)
    try:
        return DeviceFile.parse(text)
    except BadDeviceFile as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def duration(text: str) -> float:
    """Seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: expected a number and ms, s, m or h, e.g. 10s; alone it is seconds"
        )
    return float(match[1]) * _UNITS[match[2]]


def add_broker(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument("--broker", metavar="ADDRESS", default=default, help=BROKER_HELP)
