"""Small files of the broker's state: replaced whole, so that whoever reads one finds the old or the new."""

import os
from pathlib import Path


def replace_file(path: Path, data: bytes, *, sync: bool) -> None:
    """`sync`: it outlives a loss of power, else only the end of this process. Raises: OSError."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    fresh.replace(path)
