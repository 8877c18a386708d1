"""A process that has files open, as somebody may who asked no broker."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HOLD: Final = (
    "import sys; held = [open(p, 'rb+') for p in sys.argv[1:]]; print('held', flush=True); input()"
)


@contextlib.contextmanager
def holding(*paths: Path) -> Iterator[int]:
    """The pid of a process that has `paths` open."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.communicate()
