"""`furiosactl`: show NPU devices and who uses them, and administer the broker."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from furiosa.cli.broker import Connect


def main(argv: "Sequence[str] | None" = None, *, connect: "Connect | None" = None) -> int:
    """Run one command line (default: the process's) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if connect is None:
        try:
            from furiosa.cli import quick

            code = quick.run(arguments)
        except KeyboardInterrupt:
            return 130
        if code is not None:
            return code
    from furiosa.cli.starting import starting

    with starting():
        from furiosa.cli import command_line
    return command_line.run(arguments, connect)
