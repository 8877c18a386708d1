"""Fixtures of whatever talks to a kubelet; a conftest.py takes them by import."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.kubelet import registration
from support.kubelet.fake import FakeKubelet

Start = Callable[[Coroutine[Any, Any, object]], "asyncio.Task[object]"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of the clients are bounds, not what is tested."""
    monkeypatch.setattr(registration, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(registration, "STREAM_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(registration, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(registration, "STOP_SECONDS", 0.05)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A Unix socket's path may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fk", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def kubelet(short_path: Path) -> AsyncIterator[FakeKubelet]:
    async with FakeKubelet(short_path) as made:
        yield made


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Runs what it is given as long as the test does."""
    tasks: list[asyncio.Task[object]] = []

    def start(work: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
        tasks.append(asyncio.get_running_loop().create_task(work))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
