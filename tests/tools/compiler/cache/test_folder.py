"""A folder of entries: who may write to it, what is left out, what is thrown away."""

import os
import stat
import time
from pathlib import Path

import pytest

from furiosa.tools.compiler.cache.folder import FolderStore
from furiosa.tools.compiler.cache.store import StoreUnavailable

A, B, C, D = "a" * 64, "b" * 64, "c" * 64, "d" * 64
STRANGER = 54321
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x" / "cache"


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def used_at(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_what_is_written_is_read_and_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        FolderStore(path).write(A, b"data", 1)
    finally:
        os.umask(before)
    assert FolderStore(path).read(A, 1) == (b"d", b"ata")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path, path / A)]
    assert modes == [0o700, 0o700, 0o600]
    assert names(path) == [A]


def test_nothing_is_made_by_reading(path: Path) -> None:
    assert FolderStore(path).read(A, 0) is None
    FolderStore(path).remove(A)
    assert not path.exists()


def test_removing_twice_is_no_error(path: Path) -> None:
    store = FolderStore(path)
    store.write(A, b"data", 1)
    store.remove(A)
    store.remove(A)
    assert store.read(A, 0) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_others_can_write_is_refused(path: Path, mode: int) -> None:
    store = FolderStore(path)
    store.write(A, b"data", 1)
    path.chmod(mode)
    said = f"written to by others \\(mode {mode:o}\\)"
    with pytest.raises(StoreUnavailable, match=said):
        store.read(A, 0)
    with pytest.raises(StoreUnavailable, match=said):
        store.write(B, b"data", 1)
    with pytest.raises(StoreUnavailable, match=said):
        store.remove(A)
    assert names(path) == [A]


@only_root
def test_a_folder_of_somebody_else_is_refused(path: Path) -> None:
    store = FolderStore(path)
    store.write(A, b"data", 1)
    os.chown(path, STRANGER, -1)
    with pytest.raises(StoreUnavailable, match=f"belongs to user {STRANGER}"):
        store.read(A, 0)


@only_root
def test_a_file_of_somebody_else_is_ignored_and_replaced(path: Path) -> None:
    store = FolderStore(path)
    store.write(A, b"theirs", 1)
    os.chown(path / A, STRANGER, -1)
    assert store.read(A, 0) is None
    store.write(A, b"mine", 1)
    assert store.read(A, 1) == (b"m", b"ine")


def test_what_is_no_private_regular_file_is_ignored(path: Path, tmp_path: Path) -> None:
    store = FolderStore(path)
    store.write(A, b"data", 1)
    (path / A).chmod(0o666)
    (tmp_path / "elsewhere").write_bytes(b"data")
    (path / C).mkdir()
    os.mkfifo(path / D)
    (path / B).symlink_to(tmp_path / "elsewhere")
    assert [store.read(key, 0) for key in (A, B, C, D)] == [None] * 4
    store.write(B, b"new", 1)
    assert (tmp_path / "elsewhere").read_bytes() == b"data"


def test_the_least_recently_used_go_first(path: Path) -> None:
    store = FolderStore(path, max_bytes=30)
    for age, key in enumerate((A, B, C)):
        store.write(key, bytes(10), 1)
        used_at(path / key, 1000 + age)
    assert store.read(A, 1) == (bytes(1), bytes(9))  # now the latest used
    store.write(D, bytes(15), 1)
    assert names(path) == [A, D]


def test_what_exceeds_the_bound_alone_is_not_kept(path: Path) -> None:
    store = FolderStore(path, max_bytes=30)
    store.write(A, bytes(10), 1)
    store.write(B, bytes(31), 1)
    assert names(path) == [A]


def test_files_of_dead_writers_go_and_files_of_others_stay(path: Path) -> None:
    path.mkdir(parents=True, mode=0o700)
    for name in (".tmp-1-dead", ".tmp-2-alive", "notes.txt"):
        (path / name).write_bytes(bytes(100))
    used_at(path / ".tmp-1-dead", int(time.time()) - 7200)
    used_at(path / "notes.txt", 0)
    FolderStore(path, max_bytes=10).write(A, b"data", 1)
    assert names(path) == [".tmp-2-alive", A, "notes.txt"]


def test_a_write_that_fails_leaves_the_old_entry_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(path)
    store.write(A, b"old", 1)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write(A, b"new", 1)
    assert names(path) == [A]
    assert store.read(A, 1) == (b"o", b"ld")
