"""Which broker on this machine is meant. Source: docs/furiosactl.md, "Which broker"."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

SYSTEM: Final = "/run/furiosa/broker.sock"
_REAL_CARDS: Final = "/sys/class/npu_mgmt"  # where they are they come before the user's own broker
_TEMP_VARIABLES: Final = ("TMPDIR", "TEMP", "TMP")


def path_of(environ: Mapping[str, str]) -> str | None:
    """Of its socket, which may not be there. None: the whole command line has to look closer."""
    text = environ.get("FURIOSA_BROKER", "")
    if text:
        path = text.removeprefix("unix:").removeprefix("//")
        return path if path.startswith("/") and not path.startswith("//") else None
    if os.path.exists(SYSTEM):
        return SYSTEM
    if os.path.exists(_REAL_CARDS):
        return None
    folder = _own_folder(environ)
    return None if folder is None else f"{folder}/broker.sock"


def _own_folder(environ: Mapping[str, str]) -> str | None:
    """That of the user's own broker, if it is the user's alone; else whose the broker is were not known."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and _is_own(runtime):
        folder = os.path.join(runtime, "furiosa")
    elif any(environ.get(name) for name in _TEMP_VARIABLES):
        return None
    else:
        folder = f"/tmp/furiosa-{os.geteuid()}"
    return folder if _is_own(folder) else None


def _is_own(folder: str) -> bool:
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    is_private = stat.S_IMODE(status.st_mode) & 0o077 == 0
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and is_private
