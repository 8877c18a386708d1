"""Programs as users write them, each in a Python of its own that tolerates no warning."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

STRICT: Final = (
    *("-W", "error"),  # what nobody closes is a warning, too
    # what Python itself has to say about forks; that they work is what is tested
    *("-W", "ignore:This process:DeprecationWarning"),
)


def run_program(
    folder: Path, text: str, environ: Mapping[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """To its end. A file, since processes that it spawns import it again."""
    path = folder / "program.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, *STRICT, str(path), *arguments],
        env={**environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
