"""`furiosa-litmus`, also `furiosa litmus`: whether a model works with this SDK."""

import sys
from typing import TYPE_CHECKING

from furiosa.cli.starting import starting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furiosa.cli.exitcodes import ExitCode


def main(argv: "Sequence[str] | None" = None) -> "ExitCode":
    """Run one command line (default: the process's) and return its exit status."""
    with starting():
        from furiosa.cli.litmus import command_line
    return command_line.run(argv)


if __name__ == "__main__":
    sys.exit(main())
