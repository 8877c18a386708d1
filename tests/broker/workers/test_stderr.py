"""What a worker says reaches the log, up to a point."""

import asyncio
import logging
import os

import pytest

from furiosa.broker.workers import stderr
from furiosa.broker.workers.stderr import Stderr
from support.queues import open_descriptors
from support.waiting import until


async def test_each_write_is_one_event_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    before = open_descriptors()
    said, says = os.pipe()
    reader = Stderr(said, "npu0pe0")
    os.write(says, "ERROR: a\nb \x1b[31m grün\n".encode())
    await until(lambda: bool(caplog.messages))
    os.write(says, b"last words")
    os.close(says)
    reader.close()
    assert caplog.messages == [
        r'worker.said device=npu0pe0 text="ERROR: a\nb \u001b[31m gr\\xc3\\xbcn"',
        'worker.said device=npu0pe0 text="last words"',
    ]
    reader.close()
    assert open_descriptors() == before


async def test_the_end_of_the_worker_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    before = open_descriptors()
    said, says = os.pipe()
    Stderr(said, "npu0pe0")
    os.close(says)
    await until(lambda: open_descriptors() == before)
    assert not caplog.messages


async def test_a_flood_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stderr, "MAX_EVENTS", 2)
    said, says = os.pipe()
    reader = Stderr(said, "npu0pe0")
    flood = bytes(500_000)  # more than a pipe holds
    assert await asyncio.to_thread(os.write, says, flood) == len(flood)
    os.close(says)
    reader.close()
    texts = [message.partition(" ")[0] for message in caplog.messages]
    assert texts == ["worker.said", "worker.said", "worker.said_too_much"]
    assert caplog.messages[-1].endswith(f"dropped_bytes={len(flood) - 2 * stderr.CHUNK_BYTES}")


async def test_a_new_window_is_a_new_allowance(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stderr, "MAX_EVENTS", 1)
    monkeypatch.setattr(stderr, "WINDOW_SECONDS", 0.0)
    said, says = os.pipe()
    reader = Stderr(said, "npu0pe0")
    os.write(says, b"a")
    await until(lambda: len(caplog.messages) == 1)
    os.write(says, b"b")
    await until(lambda: len(caplog.messages) == 2)
    os.close(says)
    reader.close()
    assert caplog.messages[1] == "worker.said device=npu0pe0 text=b"
