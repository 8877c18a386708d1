"""Entries as files of one folder, shared by all processes of a user.

Nothing that somebody else could have written is read: the folder and each file belong to this user or to
root, and nobody else may write to them. What is used least recently goes first when the folder gets too
large; a file's time of modification says when it was last used.
"""

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.tools.compiler.cache.store import StoreUnavailable

MAX_BYTES: Final = 2 << 30
_TEMPORARY: Final = ".tmp-"
_ABANDONED_SECONDS: Final = 3600.0  # nobody writes one file for that long
_KEY_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class FolderStore:
    """`max_bytes` bounds the sum of all files."""

    path: Path
    max_bytes: int = MAX_BYTES

    def read(self, key: str, head: int) -> tuple[bytes, bytes] | None:
        try:
            with self._opened() as folder:
                return self._read(folder, key, head)
        except FileNotFoundError:
            return None

    def _read(self, folder: int, key: str, head: int) -> tuple[bytes, bytes] | None:
        try:
            file = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EACCES, errno.ELOOP):
                return None
            raise
        try:
            status = os.fstat(file)
            is_file = stat.S_ISREG(status.st_mode)
            if not is_file or _strangers(status) or status.st_size > self.max_bytes:
                return None
            with contextlib.suppress(OSError):  # of a folder that can only be read
                os.utime(file)
            with os.fdopen(file, "rb", closefd=False) as opened:
                return opened.read(head), opened.read(status.st_size)
        finally:
            os.close(file)

    def write(self, key: str, data: bytes, lifetime: int) -> None:
        """Files are not forced to disk: of one that a power cut tore, the checksum is wrong."""
        if len(data) > self.max_bytes:
            return
        _make(self.path)
        with self._opened() as folder:
            name = f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            try:
                with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
                    file.write(data)
                os.replace(name, key, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                _unlink(name, folder)
                raise
            self._shrink(folder)

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._opened() as folder:
            os.unlink(key, dir_fd=folder)

    def _shrink(self, folder: int) -> None:
        """Two processes that do this at once choose the same files, so no lock is needed."""
        files: list[tuple[int, int, str]] = []
        abandoned = time.time() - _ABANDONED_SECONDS
        with os.scandir(folder) as found:
            for item in found:
                with contextlib.suppress(FileNotFoundError):
                    status = item.stat(follow_symlinks=False)
                    if item.name.startswith(_TEMPORARY) and status.st_mtime < abandoned:
                        _unlink(item.name, folder)
                    elif len(item.name) == _KEY_LENGTH and stat.S_ISREG(status.st_mode):
                        files.append((status.st_mtime_ns, status.st_size, item.name))
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= self.max_bytes:
                return
            _unlink(name, folder)
            total -= size

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder's descriptor, checked: what it is called may be another folder a moment later.

        Raises: StoreUnavailable when others may write to it; OSError.
        """
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if strangers := _strangers(os.fstat(folder)):
                raise StoreUnavailable(
                    f"{self.path} {strangers}, so programs in it are not trusted"
                )
            yield folder
        finally:
            os.close(folder)


def _strangers(status: os.stat_result) -> str | None:
    """Who else than this user and root may have written to it."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _make(path: Path) -> None:
    for folder in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
