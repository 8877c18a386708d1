"""All that runs in a worker process. Nothing here is imported by the broker itself."""

import os
import socket

from furiosa.broker.workers.child.confine import confine
from furiosa.broker.workers.child.program import Loader
from furiosa.broker.workers.child.server import Server
from furiosa.broker.workers.counters import CountersPage
from furiosa.broker.workers.messages import Spawn
from furiosa.broker.workers.settings import WorkerSettings

__all__ = ["run"]


def run(
    order: Spawn, control: int, counters: int, parent: int, settings: WorkerSettings, load: Loader
) -> None:
    """Be the worker that `order` asks for, until the broker closes `control`. For a forked process."""
    confine(order.name, order.cpus, (control, counters), parent, settings)
    page = CountersPage(counters)
    os.close(counters)
    Server(socket.socket(fileno=control), page, len(order.cpus), settings, load).serve()
