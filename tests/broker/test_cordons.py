import asyncio
import os
import threading
from pathlib import Path

import pytest

from furiosa.broker.cordons import Cordons
from support.waiting import until

Said = list[tuple[int, str | None]]


def a_file(path: Path, said: Said | None = None) -> Cordons:
    told: Said = [] if said is None else said
    return Cordons(path, lambda npu, reason: told.append((npu, reason)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cordons.json"


async def test_cordons_are_there_after_a_restart_until_they_are_lifted(path: Path) -> None:
    cordons = a_file(path)
    assert cordons.reasons == {}
    await cordons.set(3, "new fan")
    await cordons.set(0, "x")
    assert a_file(path).reasons == {3: "new fan", 0: "x"}
    await cordons.set(3, None)
    assert a_file(path).reasons == {0: "x"}


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": "b"}'])
def test_a_bad_file_does_not_keep_the_broker_from_starting(path: Path, content: str) -> None:
    path.write_text(content)
    assert a_file(path).reasons == {}


async def test_what_cannot_be_written_has_not_happened(path: Path) -> None:
    said: Said = []
    cordons = a_file(path, said)
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        await cordons.set(1, "x")
    assert (cordons.reasons, said) == ({}, [])


async def test_a_slow_disk_keeps_nobody_else_waiting_and_no_change_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, syncing = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        syncing.set()
        go_on.wait()

    monkeypatch.setattr(os, "fsync", slow)
    said: Said = []
    cordons = a_file(path, said)
    first = asyncio.create_task(cordons.set(1, "a"))
    second = asyncio.create_task(cordons.set(2, "b"))
    await until(syncing.is_set)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert said == []
    go_on.set()
    await second
    assert said == [(1, "a"), (2, "b")]
    assert a_file(path).reasons == {1: "a", 2: "b"}
