"""Files with what the compiler reported, one for each compilation.

Source: runtime reference 9. Nobody removes them.
"""

import os
import secrets
import string
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

from furiosa.runtime._environment import log_dir

_LETTERS: Final = string.ascii_lowercase + string.digits


def new_path(environ: Mapping[str, str]) -> Path:
    """Where the next one goes: named after the local time, and a draw that tells two of a second apart."""
    drawn = "".join(secrets.choice(_LETTERS) for _ in range(6))
    return Path(log_dir(environ)) / f"compile-{datetime.now():%Y%m%d%H%M%S}-{drawn}.log"


def create(path: Path) -> TextIO:
    """A new file and the folders above it, as the umask allows. Raises: OSError, ValueError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    return open(descriptor, "w", encoding="utf-8")
