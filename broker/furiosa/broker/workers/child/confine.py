"""What a worker gives up before it touches anything a client made."""

import logging
import os
import resource
from collections.abc import Callable, Sequence

from furiosa.broker.workers import linux
from furiosa.broker.workers.settings import WorkerSettings

_log = logging.getLogger(__name__)
OOM_SCORE = 500  # of -1000..1000: the kernel rather kills a worker than the broker


def confine(
    name: str, cpus: Sequence[int], kept: Sequence[int], parent: int, settings: WorkerSettings
) -> None:
    """Turn the forked process into an unprivileged one that holds stderr and the descriptors `kept`.

    What needs privileges the broker may not have is tried and logged; the rest must succeed.
    Raises: OSError; ParentGone.
    """
    linux.die_with_parent(parent)
    linux.close_all_but(kept)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    linux.rename_process(name, f"furiosa-worker {name}")
    os.sched_setaffinity(0, cpus)  # before the engine counts CPUs or starts threads
    for attempt in (_first_to_go, _own_network, _own_ipc, _read_only_files):
        _try(attempt)
    _limit(settings)
    if os.geteuid() == 0:
        uid, gid = settings.identity()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # capabilities go with it
    linux.forbid_new_privileges()
    linux.die_with_parent(parent)  # again: changing the user cleared it


def _first_to_go() -> None:
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(OOM_SCORE))


def _own_network() -> None:
    linux.unshare(linux.CLONE_NEWNET)


def _own_ipc() -> None:
    linux.unshare(linux.CLONE_NEWIPC)


def _read_only_files() -> None:
    linux.unshare(linux.CLONE_NEWNS)
    linux.make_mounts_read_only()


def _try(attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except OSError as error:
        _log.info("%s: %s", attempt.__name__.lstrip("_"), error.strerror)


def _limit(settings: WorkerSettings) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,  # a core file would hold the client's tensors
        resource.RLIMIT_NOFILE: settings.open_files,
    }
    if settings.memory_bytes:
        limits[resource.RLIMIT_DATA] = settings.memory_bytes
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
