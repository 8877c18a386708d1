"""A control group (v2) for each worker, where a subtree was delegated to the broker.

Below the delegated folder the broker and all it starts are in `broker`, since a group with groups below
it that are limited may hold no process itself, and each worker is in `worker-<device file>`.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from furiosa.broker.log import event

_log = logging.getLogger(__name__)

BROKER: Final = "broker"
WORKER: Final = "worker-"
CONTROLLERS: Final = ("cpu", "memory", "pids")
CPU_PERIOD_US: Final = 100_000
# Source: systemd.resource-control(5), Delegate=: the mark it leaves on what it delegates
_MARKS: Final = ("user.delegate", "trusted.delegate")


def delegated() -> Path | None:
    """The folder that the service manager handed to this process, if it did."""
    folder = own_folder(
        Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    )
    if folder is None:
        return None
    if folder.name == BROKER and _marked(folder.parent):  # by an earlier self, or by the manager
        return folder.parent
    return folder if _marked(folder) else None


def own_folder(cgroups: str, mounts: str) -> Path | None:
    """Where a process's group (v2) is in the file system, from its /proc/<pid>/{cgroup,mountinfo}.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, proc_pid_mountinfo(5).
    """
    path = next((line[3:] for line in cgroups.splitlines() if line.startswith("0::/")), None)
    if path is None or ".." in Path(path).parts:  # none, or outside of what this process can see
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        if after.split()[0] == "cgroup2" and Path(path).is_relative_to(root):
            return Path(point, Path(path).relative_to(root))
    return None


def _marked(folder: Path) -> bool:
    for mark in _MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    return False


class Subtree:
    """A delegated folder, from now on run by this process alone. Raises: OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make_room()
        for left in folder.glob(f"{WORKER}*"):
            Group(left).remove()  # of a broker that was killed
        here = (folder / "cgroup.controllers").read_text().split()
        if wanted := [f"+{name}" for name in CONTROLLERS if name in here]:
            (folder / "cgroup.subtree_control").write_text(" ".join(wanted))

    def _make_room(self) -> None:
        inside = self._folder / BROKER
        inside.mkdir(exist_ok=True)
        for pid in (self._folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (inside / "cgroup.procs").write_text(pid)

    def group(self, name: str, limits: Mapping[str, str]) -> "Group | None":
        """An empty group with those of `limits` that its controllers know; None when there is none."""
        group = Group(self._folder / f"{WORKER}{name}")
        try:
            group.folder.mkdir(exist_ok=True)
            for file, value in limits.items():
                if (group.folder / file).exists():
                    (group.folder / file).write_text(value)
        except OSError as error:
            event(_log, "cgroup.not_made", logging.WARNING, folder=group.folder, cause=error)
            group.remove()
            return None
        return group


def limits(memory_bytes: int, threads: int, cpus: int) -> dict[str, str]:
    """What a worker's group is given, by the file that it is written to."""
    return {
        "memory.max": str(memory_bytes),
        "memory.oom.group": "1",
        "pids.max": str(threads),
        "cpu.max": f"{cpus * CPU_PERIOD_US} {CPU_PERIOD_US}",
    }


class Group:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remove(self) -> None:
        """End what is left in it, and the group; one that is not empty yet is taken again by the next."""
        with contextlib.suppress(OSError):
            if (self.folder / "cgroup.kill").exists():  # since Linux 5.14
                (self.folder / "cgroup.kill").write_text("1")
            self.folder.rmdir()
