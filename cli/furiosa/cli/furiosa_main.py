"""`furiosa`: one name for the commands of the SDK that are installed."""

import os
import sys
from typing import TYPE_CHECKING

from furiosa.cli.starting import starting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furiosa.cli.exitcodes import ExitCode
    from furiosa.cli.furiosa_command_line import Execute


def main(argv: "Sequence[str] | None" = None, *, execute: "Execute" = os.execv) -> "ExitCode | int":
    """Run one command line (default: the process's) and return its exit status."""
    with starting():
        from furiosa.cli import furiosa_command_line
    return furiosa_command_line.run(argv, execute)


if __name__ == "__main__":
    sys.exit(main())
