"""Recorded device trees of tests/data, and copies of them to break."""

import shutil
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"


def recorded(name: str) -> Path:
    return DATA / f"devtree-{name}"


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(recorded(name), to / name, symlinks=True))


def is_file(path: Path) -> bool:
    """Stands in for "is a character device": git cannot keep one."""
    return path.is_file()
