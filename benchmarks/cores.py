"""Which CPU cores a server under measurement runs on, and which its clients: never the same, if there
are two. Whichever server's turn it is gets the same core, so neither is held up by the clients.
"""

import os
from pathlib import Path

_ALL = sorted(os.sched_getaffinity(0))
SERVER = frozenset(_ALL[:1])
CLIENTS = frozenset(_ALL[1:] or _ALL)


def pin(pid: int, cores: frozenset[int]) -> None:
    """All threads of a process; those they start later inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)
