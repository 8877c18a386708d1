"""`furiosactl`: show NPU devices and who uses them, and administer the broker."""

from typing import TYPE_CHECKING

from furiosa.cli.starting import starting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furiosa.cli.broker import Connect
    from furiosa.cli.exitcodes import ExitCode


def main(argv: "Sequence[str] | None" = None, *, connect: "Connect | None" = None) -> "ExitCode":
    """Run one command line (default: the process's) and return its exit status."""
    with starting():
        from furiosa.cli import command_line
    return command_line.run(argv, connect)
