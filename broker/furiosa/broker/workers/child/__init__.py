"""All that runs in a worker process. Nothing here is imported by the broker itself."""

import logging
import os
import socket

from furiosa.broker.workers import messages
from furiosa.broker.workers.child.confine import confine
from furiosa.broker.workers.child.program import Loader
from furiosa.broker.workers.child.server import Server
from furiosa.broker.workers.counters import CountersPage
from furiosa.broker.workers.messages import Spawn, Started
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.common import channel

__all__ = ["run"]


def run(
    order: Spawn,
    control: int,
    counters: int,
    stderr: int,
    parent: int,
    settings: WorkerSettings,
    load: Loader,
) -> None:
    """Be the worker that `order` asks for, until the broker closes `control`. For a forked process."""
    os.dup2(stderr, 2)
    for handler in logging.getLogger().handlers:  # the broker adds who and when
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    link = socket.socket(fileno=control)
    _start(link)
    lacks = confine(order, (control, counters), parent, settings)
    page = CountersPage(counters)
    os.close(counters)
    Server(link, page, len(order.cpus), settings, load).serve(lacks)


def _start(link: socket.socket) -> None:
    pidfd = os.pidfd_open(os.getpid())
    data = channel.encode(messages.encode(Started()), (pidfd,))
    sent = channel.send(link, data, (pidfd,))
    link.sendall(data[sent:])
    os.close(pidfd)
