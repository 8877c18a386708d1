"""A folder of small text files that others read at any moment: they see a file whole or not at all."""

import contextlib
import os
from collections.abc import Collection, Set
from pathlib import Path
from typing import Final

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST: Final = 64 * 1024  # characters of a file; ours have less, so one that has more is not ours


class Folder:
    """Paths are relative to `path`. What was written is remembered, so that only changes reach the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._top = str(
            path
        )  # whole trees are written by text: a Path is dearer than most calls here
        self._written: dict[str, str] = {}

    def make(self, folder: str) -> None:
        (self.path / folder).mkdir(parents=True, exist_ok=True)

    def put(self, name: str, text: str) -> None:
        """Make the file say `text`, whoever wrote it last. A file that says so already is left alone.

        A new one is not there in one step: for a tree that nobody looks at yet.
        """
        try:
            fd = os.open(self._at(name), _WRITE | os.O_EXCL, 0o644)
        except FileExistsError:
            if self._read(name) != text:
                self._replace(name, text)
        else:
            _fill(fd, text)
        self._written[name] = text

    def write(self, name: str, text: str) -> None:
        """Replace what was last written; that again is not written, and what somebody else wrote stays.

        So does the absence of a file or a folder that somebody else removed.
        """
        before = self._written.get(name)
        if before == text or (before is not None and self._read(name) != before):
            return
        with contextlib.suppress(FileNotFoundError):
            self._replace(name, text)
            self._written[name] = text

    def _replace(self, name: str, text: str) -> None:
        final, spare = self._at(name), self._spare(name)
        _fill(os.open(spare, _WRITE | os.O_TRUNC, 0o644), text)
        os.rename(spare, final)

    def _read(self, name: str) -> str | None:
        """None: no such file."""
        try:
            fd = os.open(self._at(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with open(fd, encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)

    def touch(self, name: str) -> None:
        """An empty file; one that is there stays the same file, for somebody may have it open."""
        os.close(os.open(self._at(name), os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o660))

    def link(self, name: str, target: str) -> None:
        final, spare = self._at(name), self._spare(name)
        try:
            os.symlink(target, final)
        except FileExistsError:
            if os.path.islink(final) and os.readlink(final) == target:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare)
            os.symlink(target, spare)
            os.rename(spare, final)

    def remove(self, name: str) -> None:
        """A file that is not there is as good as removed."""
        (self.path / name).unlink(missing_ok=True)
        self._written.pop(name, None)

    def keep_only(self, top: str, files: Collection[str], folders: Collection[str]) -> None:
        """Remove everything below `top` that is neither named here nor above something named here."""
        keep = {top, *files, *folders}
        for name in tuple(keep):
            while name := name.rpartition("/")[0]:
                keep.add(name)
        self._prune(top, keep)

    def _prune(self, folder: str, keep: Set[str]) -> None:
        with os.scandir(self._at(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    self._prune(name, keep)
                if name not in keep:
                    os.rmdir(entry.path) if is_folder else os.unlink(entry.path)

    def _at(self, name: str) -> str:
        return f"{self._top}/{name}"

    def _spare(self, name: str) -> str:
        folder, _, last = self._at(name).rpartition("/")
        return f"{folder}/.{last}.new"


def _fill(fd: int, text: str) -> None:
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
