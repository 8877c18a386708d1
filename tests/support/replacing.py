"""A broker that becomes a new one in place, seen from outside."""

import os
import signal
from pathlib import Path

from furiosa.client.sync import Connection
from support.daemon import Daemon


def replaced(daemon: Daemon, times: int = 1) -> None:
    """Returns when the last of them is ready."""
    for _ in range(times):
        before = daemon.log.count("broker.ready")
        daemon.signal(signal.SIGUSR2)
        ready(daemon, before + 1)


def ready(daemon: Daemon, count: int) -> None:
    """Until so many have been ready; each in the same process."""
    pid = daemon.pid
    with Connection.open(client="probe") as probe:  # queues until the new one accepts
        while daemon.log.count("broker.ready") < count:
            probe.leases()
    assert daemon.pid == pid
    os.kill(pid, 0)


def zombies(pid: int) -> list[str]:
    """Children that ended and were never waited for."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            stat = Path(f"/proc/{child}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] == "Z":
                found.append(stat)
    return found
