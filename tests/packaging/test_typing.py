"""What type checkers make of the installed package, outside of this repository and its settings."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "data" / "typed_program.py"


def test_a_user_s_program_is_sound_under_strict_mypy(tmp_path: Path) -> None:
    """Mistakes in it are marked: one that mypy does not find is an error, too."""
    options = ("--strict", "--config-file=", f"--cache-dir={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(PROGRAM)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
