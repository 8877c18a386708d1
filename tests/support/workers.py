"""A worker pool with real processes, and programs to give it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from furiosa.broker.workers.pool import Counters, WorkerPool, WorkerSettings
from furiosa.common.names import DeviceFile
from furiosa.queuepair import ClientQueue, Completion, Geometry, Submission
from support import engines
from support.waiting import until

PE0 = DeviceFile.parse("npu0pe0")
PE1 = DeviceFile.parse("npu0pe1")
FUSED = DeviceFile.parse("npu0pe0-1")
SMALL = Geometry(4, 4096)


def memfd(content: bytes) -> int:
    fd = os.memfd_create("program", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def children(pid: int | None = None) -> set[int]:
    """Pids below a process, at any depth."""
    pid = os.getpid() if pid is None else pid
    found: set[int] = set()
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found |= {child} | children(child)
    return found


def status_of(pid: int) -> dict[str, list[str]]:
    """/proc/<pid>/status by field."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@dataclass
class Bench:
    """A started pool and the deaths it told of."""

    pool: WorkerPool
    deaths: "asyncio.Queue[tuple[str, DeviceFile, str]]" = field(default_factory=asyncio.Queue)

    async def load(self, lease: str, content: bytes, *files: DeviceFile) -> Any:
        fd = memfd(content)
        try:
            return await self.pool.load(lease, files or (PE0,), fd)
        finally:
            os.close(fd)

    async def queue(
        self, lease: str, file: DeviceFile = PE0, geometry: Geometry = SMALL
    ) -> ClientQueue:
        _, descriptors = await self.pool.open_queue(lease, file, geometry)
        return ClientQueue.attach(descriptors)

    async def release(self, lease: str) -> None:
        stopped = asyncio.Event()
        self.pool.release(lease, stopped.set)
        await stopped.wait()

    def pid(self, file: DeviceFile = PE0) -> int:
        pid = self.pool._by_file[file].pid
        assert pid is not None
        return pid

    def zygote(self) -> int:
        child = self.pool._spawner._child
        assert child is not None
        return child.pid


@asynccontextmanager
async def a_pool(**settings: Any) -> AsyncIterator[Bench]:
    deaths: asyncio.Queue[tuple[str, DeviceFile, str]] = asyncio.Queue()
    pool = WorkerPool(WorkerSettings(**settings), on_death=lambda *d: deaths.put_nowait(d))
    try:
        await pool.start()
        yield Bench(pool, deaths)
    finally:
        await pool.stop()


def fake_engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings for workers that run `support.engines`; the zygote finds it by PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent), prepend=os.pathsep)
    return {"engine": "support.engines:load"}


async def readable(fd: int) -> None:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


async def run(queue: ClientQueue, submission: Submission) -> Completion:
    queue.submit(submission)
    await readable(queue.completion_fd)
    [completion] = queue.reap()
    return completion


async def hanging(bench: Bench, lease: str, file: DeviceFile = PE0) -> ClientQueue:
    """A queue whose worker is in a run that never ends."""
    program = await bench.load(lease, engines.HANG, file)
    queue = await bench.queue(lease, file)
    queue.submit(Submission(1, program.id, 0, 64))
    await until(lambda: bench.pool.counters(file) != Counters())
    return queue
