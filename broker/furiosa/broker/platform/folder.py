"""A folder of small text files that others read at any moment: they see a file whole or not at all."""

import os
from collections.abc import Collection
from pathlib import Path


class Folder:
    """Paths are relative to `path`. What was written is remembered, so that only changes reach the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[str, str] = {}

    def make(self, folder: str) -> None:
        (self.path / folder).mkdir(parents=True, exist_ok=True)

    def write(self, name: str, text: str) -> None:
        """The text last given to `write` is not written again, whatever the file holds now."""
        if self._written.get(name) == text:
            return
        final = self.path / name
        spare = final.with_name(f".{final.name}.new")
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(spare, final)
        self._written[name] = text

    def touch(self, name: str) -> None:
        """An empty file; one that is there stays the same file, for somebody may have it open."""
        os.close(os.open(self.path / name, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o660))

    def link(self, name: str, target: str) -> None:
        final = self.path / name
        if final.is_symlink() and os.readlink(final) == target:
            return
        spare = final.with_name(f".{final.name}.new")
        spare.unlink(missing_ok=True)
        spare.symlink_to(target)
        os.rename(spare, final)

    def remove(self, name: str) -> None:
        """A file that is not there is as good as removed."""
        (self.path / name).unlink(missing_ok=True)
        self._written.pop(name, None)

    def keep_only(self, top: str, files: Collection[str], folders: Collection[str]) -> None:
        """Remove everything below `top` that is neither named here nor above something named here."""
        keep = {top, *files, *folders}
        for name in tuple(keep):
            keep.update(str(parent) for parent in Path(name).parents)
        for where, below, names in os.walk(self.path / top, topdown=False):
            for entry in (Path(where, name) for name in (*names, *below)):
                if str(entry.relative_to(self.path)) in keep:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    entry.rmdir()
                else:
                    entry.unlink()
