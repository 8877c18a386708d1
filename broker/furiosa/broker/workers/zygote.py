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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from furiosa.broker.workers import linux, messages
from furiosa.broker.workers.child import LOG_FORMAT, run
from furiosa.broker.workers.child.program import Loader
from furiosa.broker.workers.messages import (
    Exited,
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
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> None:
        self._send(ZygoteReady())
        while True:
            for item, _ in self._selector.select():
                if item.data is not None:
                    self._reap(item.data)
                elif not self._receive():
                    return

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        data = channel.encode(messages.encode(message), descriptors)
        sent = channel.send(self._control, data, descriptors)
        self._control.sendall(data[sent:])

    def _receive(self) -> bool:
        """False at the end of the socket."""
        data, descriptors = channel.receive(self._control)
        if not data:
            return False
        self._decoder.feed(data, descriptors)
        for item in self._decoder.messages():
            order = messages.parse(item.payload, messages.TO_ZYGOTE, len(item.descriptors))
            try:
                self._spawn(cast("Spawn", order), *item.descriptors)
            finally:
                item.close()
        return True

    def _spawn(self, order: Spawn, control: int, counters: int) -> None:
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
                run(order, control, counters, parent, self._settings, self._load)
                status = 0
            except linux.ParentGone:
                status = 0
            except BaseException:
                _log.exception("worker %s ends", order.name)
            finally:
                os._exit(status)
        child = _Child(order.key, os.pidfd_open(pid))  # cannot be another's pid: only we reap it
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._send(Spawned(order.key, pid), (child.pidfd,))

    def _reap(self, child: _Child) -> None:
        result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        assert result is not None
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
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
    logging.basicConfig(format=LOG_FORMAT)
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
