"""The broker's end of the zygote: start it, have it fork workers, start another when it dies."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from furiosa.broker.log import event
from furiosa.broker.workers import cgroup, messages
from furiosa.broker.workers.link import Link
from furiosa.broker.workers.messages import (
    BadMessage,
    Exited,
    Kill,
    Message,
    Spawn,
    Spawned,
    SpawnFailed,
    ZygoteReady,
)
from furiosa.broker.workers.process import Process
from furiosa.broker.workers.settings import WorkerSettings

_log = logging.getLogger(__name__)

RESTART_SECONDS: Final = 1.0  # between attempts when a zygote dies before it is ready
STOP_SECONDS: Final = 10.0  # for the kernel to end a process that was killed

ENVIRONMENT: Final = {
    # what would make the zygote start threads on import; see zygote.py
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Since 1.32 onnxruntime's official builds report to Microsoft, from a thread started on import.
    "ORT_DISABLE_TELEMETRY": "1",
    # Huge pages for malloc, where the kernel leaves them to programs: loading is mostly touching new
    # memory, and takes little more than half the time with them. glibc since 2.35; others ignore it.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

INHERITED: Final = ("PATH", "PYTHON", "LANG", "LC_", "LD_", "TZ")  # beginnings of names


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The zygote's: what Python needs to start, and no secret that a worker could then read."""
    inherited = {name: value for name, value in ours.items() if name.startswith(INHERITED)}
    return {**inherited, **ENVIRONMENT}


class Spawner:
    """For the main thread: the kernel ends the zygote with the thread that started it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._keys = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._orders: dict[int, asyncio.TimerHandle] = {}  # not forked yet
        self._link: Link | None = None
        self._subtree: cgroup.Subtree | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._ready: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None  # of a start or of a restart
        self._stopped: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Raises: OSError; RuntimeError when the zygote ends at once, its stderr says why, and in any
        thread but the main one: the zygote would end with the thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("workers can be started from the main thread only")
        if self._settings.cgroup:
            self._take_cgroup(Path(self._settings.cgroup))
        self._ready = asyncio.get_running_loop().create_future()
        self._exec()
        await self._ready

    def _take_cgroup(self, folder: Path) -> None:
        """Before the zygote, which is to be in it too."""
        try:
            self._subtree = cgroup.Subtree(folder)
        except OSError as error:
            event(_log, "cgroup.not_used", logging.WARNING, folder=folder, cause=error)

    async def stop(self) -> None:
        """End the zygote, and with it what it forked. Bounded."""
        self._stopped = asyncio.get_running_loop().create_future()
        if self._timer is not None:
            self._timer.cancel()
        if self._child is None:
            return
        self._kill()
        done, _ = await asyncio.wait([self._stopped], timeout=STOP_SECONDS)
        if not done:
            _log.error("the zygote (pid %d) does not end", self._child.pid)

    def spawn(
        self,
        name: str,
        cpus: Sequence[int],
        descriptors: tuple[int, int, int],
        on_spawned: Callable[[], None],
        on_exit: Callable[[str], None],
    ) -> Process:
        """Order a worker with its control socket, counters page and stderr; all stay yours."""
        key = next(self._keys)
        group = self._group(name, len(cpus))

        def ended(cause: str) -> None:
            if group is not None:
                group.remove()
            on_exit(cause)

        process = Process(on_spawned, ended, lambda: self._have_killed(key))
        loop = asyncio.get_running_loop()
        if self._link is None:
            loop.call_soon(process.failed, "there is no zygote")
        else:
            folder = "" if group is None else str(group.folder)
            self._link.send(Spawn(key, name, tuple(cpus), folder), descriptors)
            self._processes[key] = process
            seconds = self._settings.zygote_timeout
            complaint = f"forked no worker within {seconds:g} s"
            self._orders[key] = loop.call_later(seconds, self._overdue, complaint)
        return process

    def _group(self, name: str, cpus: int) -> cgroup.Group | None:
        if self._subtree is None:
            return None
        settings = self._settings
        memory = settings.memory_bytes + settings.max_lease_arena_bytes
        return self._subtree.group(name, cgroup.limits(memory, settings.max_threads, cpus))

    def _have_killed(self, key: int) -> None:
        if self._link is not None:
            self._link.send(Kill(key))

    def _exec(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                *(sys.executable, "-P", "-m", "furiosa.broker.workers.zygote"),  # -P: not from here
                *("--control-fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                *("--settings", self._settings.to_json()),
            ]
            try:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment(os.environ),
                    start_new_session=True,  # Ctrl-C is for the broker, which then decides
                )
            except OSError:
                ours.close()
                raise
        self._pidfd = os.pidfd_open(self._child.pid)
        loop.add_reader(self._pidfd, self._died)
        self._link = Link(ours, messages.FROM_ZYGOTE, self._message, self._link_ended)
        seconds = self._settings.zygote_timeout
        self._timer = loop.call_later(seconds, self._overdue, f"was not ready within {seconds:g} s")

    def _overdue(self, complaint: str) -> None:
        _log.error("the zygote %s", complaint)
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _link_ended(self, reason: str | None) -> None:
        if reason is not None:
            _log.error("zygote: %s", reason)
        self._kill()

    def _died(self) -> None:
        """Its pidfd is readable."""
        assert self._child is not None
        assert self._link is not None
        loop = asyncio.get_running_loop()
        self._link.drain()  # it may have told of workers that we would not find otherwise
        self._link.close()
        self._link = None
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._child.wait()  # dead already: returns at once
        self._child = None
        was_ready = self._timer is None
        if self._timer is not None:
            self._timer.cancel()
        orphans, self._processes = self._processes, {}
        for timer in self._orders.values():
            timer.cancel()
        self._orders.clear()
        if self._stopped is not None:
            self._stopped.set_result(None)
        elif self._ready is not None and not self._ready.done():
            self._ready.set_exception(RuntimeError(f"the zygote ended with status {status}"))
        else:
            _log.error("the zygote ended with status %d; its workers end with it", status)
            self._restart(0.0 if was_ready else RESTART_SECONDS)
        for process in orphans.values():
            process.orphaned()

    def _restart(self, delay: float) -> None:
        if delay:
            self._timer = asyncio.get_running_loop().call_later(delay, self._restart, 0.0)
            return
        try:
            self._exec()
        except OSError:
            _log.exception("no zygote can be started")
            self._restart(RESTART_SECONDS)

    def _message(self, message: Message, _: tuple[int, ...]) -> None:
        match message:
            case ZygoteReady():
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case Spawned(key, pid):
                process = self._processes.get(key)
                if process is None:
                    raise BadMessage(f"pid {pid} for order {key}, which is not open")
                self._forked(key)
                process.spawned(pid)
            case SpawnFailed(key, cause):
                self._forked(key)
                self._take(key).failed(cause)
            case Exited(key, code):
                self._take(key).exited(code)

    def _forked(self, key: int) -> None:
        timer = self._orders.pop(key, None)
        if timer is None:
            raise BadMessage(f"order {key} was answered already")
        timer.cancel()

    def _take(self, key: int) -> Process:
        process = self._processes.pop(key, None)
        if process is None:
            raise BadMessage(f"order {key} is not open")
        return process
