"""All that runs in a worker process. Nothing here is imported by the broker itself."""

import logging
import os
import socket
from typing import Final

from furiosa.broker.workers.child.confine import confine
from furiosa.broker.workers.child.program import Loader
from furiosa.broker.workers.child.server import Server
from furiosa.broker.workers.counters import CountersPage
from furiosa.broker.workers.messages import Spawn
from furiosa.broker.workers.settings import WorkerSettings

__all__ = ["LOG_FORMAT", "run"]

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def run(
    order: Spawn, control: int, counters: int, parent: int, settings: WorkerSettings, load: Loader
) -> None:
    """Be the worker that `order` asks for, until the broker closes `control`. For a forked process."""
    # In a pid namespace of its own the worker is number 1 to itself, which says nothing in a log.
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT.replace("%(process)d", order.name)))
    confine(order.name, order.cpus, (control, counters), parent, settings)
    page = CountersPage(counters)
    os.close(counters)
    Server(socket.socket(fileno=control), page, len(order.cpus), settings, load).serve()
