"""Who has a device file open, with or without a lease: what /proc/<pid>/fd says.

An emulated card's files are known by their path, as the reference has it. A real device node may have
been opened through another path, such as a container's own /dev, so there the device number decides;
asked for are only descriptors whose path has a folder "dev" in it, which is a tenth of all and none of
them on a file system that may hang. What is bound elsewhere is missed here, and answers EBUSY.
Source: devices reference 10.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.views import Origin
from furiosa.sysfs import tree
from furiosa.sysfs.discovery import Card, Enter, everything

# Enough for every server; a process that hides behind more harms nobody: an emulated core is exclusive
# by the broker's word, and a real one by its driver's.
MAX_DESCRIPTORS: Final = 16_384
_TEXT_BYTES: Final = 4096  # of a command line or a status


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has `device_file` open."""

    pid: int
    uid: int | None  # the real one; None: /proc does not tell
    command_line: str  # arguments joined with blanks
    device_file: DeviceFile


Foreign = Mapping[DeviceFile, tuple[Holder, ...]]  # open files that no lease covers, and by whom


@dataclass(frozen=True, slots=True)
class Nodes:
    """How the device files of all cards are recognised; made anew only when the cards change."""

    paths: Mapping[str, DeviceFile] = field(default_factory=dict)
    numbers: Mapping[int, DeviceFile] = field(default_factory=dict)  # by st_rdev

    @classmethod
    def of(cls, root: Path, cards: Iterable[Card]) -> "Nodes":
        folder = os.path.realpath(tree.nodes(root))
        paths: dict[str, DeviceFile] = {}
        numbers: dict[int, DeviceFile] = {}
        for card in cards:
            for file in card.device_files:
                path = f"{folder}/{file}"
                if card.origin is Origin.EMULATED:
                    paths[path] = file
                else:
                    with contextlib.suppress(OSError):
                        numbers[os.stat(path).st_rdev] = file
        return cls(paths, numbers)


def holders(
    nodes: Nodes,
    *,
    skip: Set[int] = frozenset(),
    proc: Path = Path("/proc"),
    enter: Enter = everything,
) -> tuple[Holder, ...]:
    """One entry for each process and device file, by name of the file as text, then pid.

    Without privileges only one's own processes show their descriptors. This process and those in
    `skip` are left out. Processes that end meanwhile are not there. Blocking: about 10 µs a process
    and 2 µs a descriptor, so call it in a thread. Raises: OSError when `proc` cannot be listed, or the
    broker is short of something.
    """
    if not nodes.paths and not nodes.numbers:
        return ()
    found = []
    for name in os.listdir(proc):
        if not name.isdecimal():
            continue
        pid = int(name)
        if pid == os.getpid() or pid in skip or not enter(f"pid {pid}"):
            continue
        # a kernel thread has no descriptors, and an empty listing is the cheapest way to tell one
        try:
            files = set(_files(nodes, f"{proc}/{name}/fd"))
            found += [_holder(f"{proc}/{name}", pid, file) for file in files]
        except OSError as exc:  # it has ended, or is none of our business
            if tree.is_ours(exc):
                raise
    return tuple(sorted(found, key=lambda holder: (str(holder.device_file), holder.pid)))


def foreign(found: Iterable[Holder], owners: Mapping[DeviceFile, Collection[int]]) -> Foreign:
    """Those that hold cores no lease of theirs covers, by file. PURE.

    `owners`: the leased files, with the pids that may use each. An owner of npu0pe0-1 may have npu0pe0
    open, and one of npu0pe0 and npu0pe1 may have npu0pe0-1; the whole card, npu0, is covered by a lease
    of npu0 alone. A child that inherited an open file is no owner.
    """
    leased: dict[int, list[DeviceFile]] = {}
    for file, pids in owners.items():
        for pid in pids:
            leased.setdefault(pid, []).append(file)
    result: dict[DeviceFile, tuple[Holder, ...]] = {}
    for holder in found:
        if not _covered(holder.device_file, leased.get(holder.pid, ())):
            file = holder.device_file
            result[file] = (*result.get(file, ()), holder)
    return result


def _covered(file: DeviceFile, leased: Iterable[DeviceFile]) -> bool:
    missing = file.cores.first
    ranges = (other.cores for other in leased if other.npu == file.npu)
    for cores in sorted(ranges, key=lambda cores: cores.first):
        if missing in cores:
            missing = cores.last + 1
    return missing > file.cores.last


def _files(nodes: Nodes, folder: str) -> Iterator[DeviceFile]:
    """Raises: OSError when the process has gone or is none of our business."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd)[:MAX_DESCRIPTORS]:
            try:
                path = os.readlink(name, dir_fd=fd)
                if path in nodes.paths:
                    yield nodes.paths[path]
                elif nodes.numbers and "/dev/" in path:
                    status = os.stat(name, dir_fd=fd)
                    if stat.S_ISCHR(status.st_mode) and status.st_rdev in nodes.numbers:
                        yield nodes.numbers[status.st_rdev]
            except OSError:  # closed meanwhile
                continue
    finally:
        os.close(fd)


def _holder(folder: str, pid: int, file: DeviceFile) -> Holder:
    status = _read(f"{folder}/status").partition("\nUid:")[2].split(maxsplit=1)
    command_line = _read(f"{folder}/cmdline").replace("\0", " ").strip()
    return Holder(pid, int(status[0]) if status else None, command_line, file)


def _read(path: str) -> str:
    """Raises: OSError: the process has gone."""
    with open(path, "rb", buffering=0) as file:
        return (file.read(_TEXT_BYTES) or b"").decode(errors="replace")
