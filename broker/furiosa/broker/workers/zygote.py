"""`python -m furiosa.broker.workers.zygote`: a process that has imported everything and forks workers.

A fork costs a millisecond where an exec with its imports costs 300. It must be free of threads, which do
not survive a fork and may hold locks at that moment: it never imports gRPC, and the broker starts it with
`spawner.ENVIRONMENT`, without which numpy's BLAS and onnxruntime start threads on import. It handles no
client's data, ends when the broker does, and its workers end with it.
"""

import argparse
import gc
import importlib
import logging
import os
import selectors
import signal
import socket
from dataclasses import dataclass
from typing import assert_never, cast

from furiosa.broker.workers import linux, messages
from furiosa.broker.workers.child import run
from furiosa.broker.workers.child.program import Loader
from furiosa.broker.workers.messages import (
    Exited,
    Kill,
    Message,
    Spawn,
    Spawned,
    SpawnFailed,
    ZygoteReady,
)
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.common import channel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Child:
    key: int
    pidfd: int


class Zygote:
    """Serves its control socket until the broker closes it. For the main thread of a clean process."""

    def __init__(self, control: socket.socket, settings: WorkerSettings, load: Loader) -> None:
        self._control = control
        self._settings = settings
        self._load = load
        self._decoder = channel.Decoder(messages.MAX_PAYLOAD)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: dict[int, _Child] = {}
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> None:
        self._send(ZygoteReady())
        while True:
            for item, _ in self._selector.select():
                if item.data is not None:
                    self._reap(item.data)
                elif not self._receive():
                    return

    def _send(self, message: Message) -> None:
        self._control.sendall(channel.encode(messages.encode(message)))

    def _receive(self) -> bool:
        """False at the end of the socket."""
        data, descriptors = channel.receive(self._control)
        if not data:
            return False
        self._decoder.feed(data, descriptors)
        for item in self._decoder.messages():
            order = messages.parse(item.payload, messages.TO_ZYGOTE, len(item.descriptors))
            try:
                match cast("Spawn | Kill", order):
                    case Spawn() as spawn:
                        self._spawn(spawn, *item.descriptors)
                    case Kill(key):
                        self._kill(key)
                    case other:
                        assert_never(other)
            finally:
                item.close()
        return True

    def _kill(self, key: int) -> None:
        if child := self._children.get(key):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)  # not reaped, so this cannot fail

    def _spawn(self, order: Spawn, control: int, counters: int, stderr: int) -> None:
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            self._send(SpawnFailed(order.key, f"the zygote has {threads} threads"))
            return
        parent = os.getpid()
        try:
            pid = linux.fork_into_pid_namespace(self._pid_namespace)
        except OSError as error:
            self._send(SpawnFailed(order.key, f"fork: {error.strerror}"))
            return
        if pid == 0:
            status = 1
            try:
                run(order, control, counters, stderr, parent, self._settings, self._load)
                status = 0
            except (linux.ParentGone, BrokenPipeError, ConnectionResetError):
                status = 0  # nobody wants it any more
            except BaseException:
                _log.exception("worker %s ends", order.name)
            finally:
                os._exit(status)
        try:
            pidfd = os.pidfd_open(pid)  # cannot be another's pid: only we reap it
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._send(SpawnFailed(order.key, f"pidfd_open: {error.strerror}"))
            return
        child = self._children[order.key] = _Child(order.key, pidfd)
        self._selector.register(pidfd, selectors.EVENT_READ, child)
        self._send(Spawned(order.key, pid))

    def _reap(self, child: _Child) -> None:
        result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        assert result is not None
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.key]
        code = result.si_status + (0 if result.si_code == os.CLD_EXITED else 256)
        self._send(Exited(child.key, code))


def _resolve(name: str) -> Loader:
    """The loader, with all that it imports only when used: a worker may not be able to read files."""
    importlib.import_module("onnx")
    module, _, function = name.partition(":")
    return cast("Loader", getattr(importlib.import_module(module), function))


def main() -> None:
    parser = argparse.ArgumentParser(description="Forks NPU workers for furiosa-brokerd.")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of the broker")
    parser.add_argument("--settings", required=True, help="JSON")
    arguments = parser.parse_args()
    linux.die_with_parent(arguments.parent)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # also for the workers: it is the broker who decides
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    settings = WorkerSettings.from_json(arguments.settings)
    load = _resolve(settings.engine)
    control = socket.socket(fileno=arguments.control_fd)
    gc.freeze()  # children neither visit nor copy the pages of what was imported
    try:
        Zygote(control, settings, load).serve()
    except (BrokenPipeError, ConnectionResetError):
        return  # the broker is gone


if __name__ == "__main__":
    main()
