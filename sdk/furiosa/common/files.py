"""Small files that others read: replaced whole, so that whoever reads one finds the old or the new."""

import contextlib
import os
import tempfile
from pathlib import Path


def replace_file(path: Path, data: bytes, *, sync: bool = True, mode: int = 0o644) -> None:
    """`sync`: it outlives a loss of power, else only the end of this process. Until it is whole it has a
    name with a dot in front, which those who read folders pass over. Raises: OSError.
    """
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
