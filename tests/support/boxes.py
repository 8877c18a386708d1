"""Processes that see mounts of their own, as in a container: they have the grant files they are given."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from support.clients import Steered

_ENTER: Final = """
import ctypes
def enter(grants, folder):
    libc = ctypes.CDLL(None, use_errno=True)
    def done(result):
        if result:
            raise OSError(ctypes.get_errno(), "mount")
    done(libc.unshare(0x00020000))  # CLONE_NEWNS
    done(libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None))  # MS_REC | MS_PRIVATE
    for number, grant in enumerate(grants):
        target = f"{folder}/{number}"
        open(target, "w").close()
        done(libc.mount(grant.encode(), target.encode(), None, 0x1000, None))  # MS_BIND
"""


class Box(Steered):
    """A client that has `grants` mounted, at files in `folder`; it is in `group`, if it is given one.

    Raises: Raised, where mounts cannot be made.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        grants: Sequence[str],
        folder: Path,
        group: Path | None = None,
    ) -> None:
        super().__init__(environ)
        orders = [
            "connection.close()",
            _ENTER,
            f"enter({json.dumps(list(grants))}, {str(folder)!r})",
            "connect()",
        ]
        if group is not None:
            orders.insert(1, f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))")
        try:
            for order in orders:
                self.ask(order)
        except BaseException:
            self.__exit__(None, None, None)
            raise
