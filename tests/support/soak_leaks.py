"""What a process tree keeps: descriptors, memory, processes."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kept:
    """Of all processes together; the kinds of descriptors with how many there are of each."""

    processes: int
    descriptors: Counter[str]
    mapped_files: Counter[str]  # memory that is shared by name or descriptor


def kept_by(pids: Iterable[int]) -> Kept:
    descriptors: Counter[str] = Counter()
    mapped: Counter[str] = Counter()
    count = 0
    for pid in pids:
        count += 1
        descriptors += descriptors_of(pid)
        mapped += mapped_by(pid)
    return Kept(count, descriptors, mapped)


def descriptors_of(pid: int) -> Counter[str]:
    """By what they are: "socket:", "/memfd:owner (deleted)", "anon_inode:[pidfd]", a path.

    Without those that a broker has for moments, when it looks at its devices and who has them open.
    """
    found: Counter[str] = Counter()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(FileNotFoundError):
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                name = os.readlink(f"{folder}/{fd}")
                if not name.startswith("/proc") and "/sys/" not in name:
                    found[re.sub(r"\[?\d+\]?$", "", name)] += 1
    return found


def private_megabytes(pid: int) -> float:
    """Anonymous memory in use. Source: proc(5), RssAnon of status, in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


def mapped_by(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            _, access, _, _, _, *name = line.split(maxsplit=5)
            if access.endswith("s"):
                found[" ".join(name)] += 1
    return found
