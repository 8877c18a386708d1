"""Files that say, by being mounted into a container, what its processes may.

Whoever starts a container mounts a file of this folder into it, as a bind mount of that very file. The
kernel tells of each process which mounts it sees, and of each mount which file of which file system it
shows. A container cannot make such a mount without having the file: so nothing is secret here, and nothing
has to be told to the processes.

What cannot be told apart: a container that has the whole folder, or what is above it, can mount any file of
it once more. Give containers files, not the folder.
Source: proc_pid_mountinfo(5), mount_namespaces(7).
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import DEVICES, MANAGER, RESERVATIONS

MOST_BYTES: Final = 4 * 1024**2  # of one mountinfo: the kernel allows 100,000 mounts, with paths
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")  # blank, tab, line feed and backslash in a path
_GONE: Final = b"//deleted"  # how the kernel marks a file that was removed


class GrantFiles:
    """The files below `folder`, and who has which."""

    def __init__(self, folder: Path, proc: str = "/proc") -> None:
        """Raises: OSError when the folder cannot be made."""
        self.folder = folder
        self._proc = proc
        for name in (DEVICES, RESERVATIONS):
            (folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        self._write(MANAGER, "may reserve NPU cores\n")
        self._device, self._root = _place(_read(f"{proc}/self/mountinfo"), folder.resolve())

    def offer(self, files: Iterable[DeviceFile]) -> None:
        """The grants of device files. A file that is there stays the file that it is: it may be mounted."""
        for file in files:
            self._write(f"{DEVICES}/{file}", f"{file}\n")

    def path(self, reservation: str) -> Path:
        return self.folder / RESERVATIONS / reservation

    def put(self, reservation: str, files: Iterable[DeviceFile]) -> None:
        """Raises: OSError."""
        text = "".join(f"{file}\n" for file in files)
        self._write(f"{RESERVATIONS}/{reservation}", text)

    def drop(self, reservation: str) -> None:
        """Whoever still has it mounted has nothing by it from now on. Raises: OSError."""
        self.path(reservation).unlink(missing_ok=True)

    def keep_only(self, reservations: Iterable[str]) -> None:
        """Drop those of reservations that are none. Raises: OSError."""
        known = set(reservations)
        for path in (self.folder / RESERVATIONS).iterdir():
            if path.name not in known:
                path.unlink()

    def of(self, pid: int) -> frozenset[str]:
        """Names, such as "devices/npu0pe0", of the files that are mounted where process `pid` lives.

        None of one that sees what the broker sees: it is in no container of its own.
        A pid says nothing about whom it belonged to a moment ago: ask afterwards, through a pidfd,
        whether the process that was meant still lives.
        """
        namespace = self._namespace(str(pid))
        if namespace is not None and namespace == self._namespace("self"):
            return frozenset()
        return self._of(str(pid))

    def holders(self) -> dict[str, tuple[int, ...]]:
        """Pids of all processes that have a grant, ascending, by its name. Takes a while: for a thread."""
        own = self._namespace("self")
        members: dict[str, list[int]] = {}
        for name in os.listdir(self._proc):
            namespace = self._namespace(name) if name.isdigit() else None
            if namespace is not None and namespace != own:
                members.setdefault(namespace, []).append(int(name))
        found: dict[str, list[int]] = {}
        for pids in members.values():
            for grant in self._of_first(pids):
                found.setdefault(grant, []).extend(pids)
        return {grant: tuple(sorted(pids)) for grant, pids in found.items()}

    def _of_first(self, pids: Iterable[int]) -> frozenset[str]:
        """What those of one namespace have, told by the first that still lives."""
        for pid in pids:
            found = self._of(str(pid))
            if found or self._namespace(str(pid)) is not None:
                return found
        return frozenset()

    def _of(self, pid: str) -> frozenset[str]:
        start = self._root + b"/"
        text = _read(f"{self._proc}/{pid}/mountinfo")
        return frozenset(
            os.fsdecode(root[len(start) :])
            for device, root, _ in _mounts(text)
            if device == self._device and root.startswith(start) and not root.endswith(_GONE)
        )

    def _namespace(self, pid: str) -> str | None:
        try:
            return os.readlink(f"{self._proc}/{pid}/ns/mnt")
        except OSError:  # it has ended, or is nobody's business
            return None

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            path.chmod(0o444)


def _place(mountinfo: bytes, folder: Path) -> tuple[bytes, bytes]:
    """In which file system the folder is, and where in it."""
    path = os.fsencode(folder)
    best: tuple[bytes, bytes, bytes] | None = None
    for device, root, point in _mounts(mountinfo):
        inside = point == b"/" or path == point or path.startswith(point + b"/")
        # of two on one point the later covers the former
        if inside and (best is None or len(point) >= len(best[2])):
            best = device, root, point
    if best is None:
        raise OSError(f"the kernel does not tell in which file system {folder} is")
    device, root, point = best
    rest = path if point == b"/" else path[len(point) :]
    return device, root.rstrip(b"/") + rest


def _mounts(mountinfo: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Device, root and mount point of each."""
    for line in mountinfo.splitlines():
        fields = line.split(b" ", 5)
        if len(fields) == 6:
            yield fields[2], _plain(fields[3]), _plain(fields[4])


def _plain(path: bytes) -> bytes:
    if b"\\" not in path:
        return path
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), path)


def _read(path: str) -> bytes:
    """Empty when there is no such process, and for more than is believed."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError:
        return b""
    return data if len(data) <= MOST_BYTES else b""
