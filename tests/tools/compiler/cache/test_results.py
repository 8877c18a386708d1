"""Lifetimes, corrupt entries, and stores that fail."""

import errno
import logging
from pathlib import Path

import pytest

from furiosa.common.clock import ManualClock
from furiosa.tools.compiler.cache.entry import HEADER_BYTES, CorruptEntry, Entry, pack, unpack
from furiosa.tools.compiler.cache.folder import FolderStore
from furiosa.tools.compiler.cache.results import Results, open_results
from furiosa.tools.compiler.cache.store import StoreUnavailable

KEY = "a" * 64
CLOCK = ManualClock(1_000_000.0)


def results(path: Path, lifetime: int, later: float = 0.0) -> Results:
    return Results(FolderStore(path), lifetime, lambda: int((CLOCK() + later) * 1e9))


@pytest.mark.parametrize(
    ("lifetime", "later", "is_found"),
    [
        (10, 9.9, True),
        (10, 10.0, False),
        (0, 0.0, False),
        (0, -5.0, False),
        (-1, 1e9, True),
        (10, -5.0, True),
    ],
)
def test_a_result_lives_as_long_as_its_reader_lets_it(
    tmp_path: Path, lifetime: int, later: float, is_found: bool
) -> None:
    results(tmp_path, 10).put(KEY, b"result")
    found = results(tmp_path, lifetime, later).get(KEY)
    assert found == (b"result" if is_found else None)


def test_lifetime_0_keeps_the_new_result_for_others(tmp_path: Path) -> None:
    results(tmp_path, 0).put(KEY, b"result")
    assert results(tmp_path, 10).get(KEY) == b"result"


def test_a_new_result_begins_a_new_life(tmp_path: Path) -> None:
    results(tmp_path, 10).put(KEY, b"old")
    results(tmp_path, 10, 20.0).put(KEY, b"new")
    assert results(tmp_path, 10, 29.0).get(KEY) == b"new"


def test_every_damage_is_noticed() -> None:
    data = pack(KEY, Entry(5, b"result"))

    def unpacked(key: str, data: bytes) -> Entry:
        return unpack(key, data[:HEADER_BYTES], data[HEADER_BYTES:])

    assert unpacked(KEY, data) == Entry(5, b"result")
    damaged = [data[:end] for end in range(len(data))] + [data + b"x"]
    damaged += [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
    for each in damaged:
        with pytest.raises(CorruptEntry):
            unpacked(KEY, each)
    with pytest.raises(CorruptEntry):
        unpacked("b" * 64, data)


def test_a_corrupt_entry_is_a_miss_and_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results(tmp_path, 10).put(KEY, b"result")
    (tmp_path / KEY).write_bytes((tmp_path / KEY).read_bytes()[:-1])
    assert results(tmp_path, 10).get(KEY) is None
    assert not (tmp_path / KEY).exists()
    assert "is corrupt and is removed: its checksum is wrong" in caplog.text


class BrokenStore:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def read(self, key: str, head: int) -> tuple[bytes, bytes] | None:
        self.calls += 1
        raise self.error

    def write(self, key: str, data: bytes, lifetime: int) -> None:
        self.calls += 1
        raise self.error

    def remove(self, key: str) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (StoreUnavailable("nobody there"), logging.WARNING),
        (OSError(errno.ENOSPC, "disk full"), logging.WARNING),
        (OSError(errno.EROFS, "read-only"), logging.DEBUG),
        (OSError(errno.EACCES, "denied"), logging.DEBUG),
    ],
)
def test_a_store_that_fails_is_told_of_once_and_left_alone(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "furiosa.tools")
    store = BrokenStore(error)
    cache = Results(store, 10)
    assert cache.get(KEY) is None
    cache.put(KEY, b"result")
    assert store.calls == 1
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (level, f"the compiler cache is not used: {error}")
    ]


def test_the_environment_chooses_the_store(tmp_path: Path) -> None:
    assert open_results({"FC_CACHE_ENABLED": "0", "HOME": str(tmp_path)}) is None
    opened = open_results({"HOME": str(tmp_path)})
    assert opened
    opened.put(KEY, b"result")
    assert (tmp_path / ".cache/furiosa/compiler" / KEY).is_file()
