"""`furiosa-compiler`: an ONNX or TensorFlow Lite model in, a program for the NPU out."""

import sys
from typing import TYPE_CHECKING

from furiosa.cli.starting import starting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furiosa.cli.exitcodes import ExitCode


def main(argv: "Sequence[str] | None" = None) -> "ExitCode":
    """Run one command line (default: the process's) and return its exit status."""
    with starting():
        from furiosa.cli import compiler_command_line
    return compiler_command_line.run(argv)


if __name__ == "__main__":
    sys.exit(main())
