"""Sub-commands of furiosactl, and the arguments that several of them share."""

import argparse
from enum import Enum
from typing import Final


class Format(Enum):
    """How a result is printed; the value is what `--format` takes. TABLE is the default and has no name."""

    TABLE = ""
    JSON = "json"
    YAML = "yaml"


Commands = argparse._SubParsersAction  # argparse has no public name for it

BROKER_HELP: Final = "where the broker is: unix:/path (default: $FURIOSA_BROKER)"


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


def add_broker(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument("--broker", metavar="ADDRESS", default=default, help=BROKER_HELP)
