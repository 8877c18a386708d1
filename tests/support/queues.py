"""Both ends of a queue pair in one process."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from furiosa.queuepair import ClientQueue, Descriptors, Geometry, WorkerQueue, create


def duplicate(descriptors: Descriptors) -> Descriptors:
    return Descriptors(*map(os.dup, descriptors.as_tuple()))


@contextmanager
def both_ends(geometry: Geometry) -> Iterator[tuple[ClientQueue, WorkerQueue]]:
    descriptors = create(geometry)
    worker = WorkerQueue.attach(duplicate(descriptors), geometry)
    client = ClientQueue.attach(descriptors)
    try:
        yield client, worker
    finally:
        client.close()
        worker.close()


def open_descriptors() -> set[str]:
    """What this process has open, by name, without the descriptor that does the looking.

    What is open only because nobody has collected it yet, such as the event loop of an earlier test, is not.
    """
    gc.collect()
    names = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue
    return names
