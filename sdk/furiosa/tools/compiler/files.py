"""Files that are whole or not there."""

import os
from pathlib import Path


def save(path: Path, data: bytes) -> None:
    """Write the file whole or not at all: beside it first, then moved over it.

    What is there and is no regular file (a pipe, /dev/stdout) is written to as it is.
    Raises: OSError, naming `path`.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data)  # a link stays a link
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from None


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
