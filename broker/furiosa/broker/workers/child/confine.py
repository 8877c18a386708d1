"""What a worker gives up before it touches anything a client made. docs/isolation.md has the whole of it."""

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

from furiosa.broker.workers import linux
from furiosa.broker.workers.child import mounts, privileges, seccomp
from furiosa.broker.workers.messages import Spawn
from furiosa.broker.workers.settings import WorkerSettings

OOM_SCORE = 500  # of -1000..1000: the kernel rather kills a worker than the broker
USER_THREADS = 4096  # of all workers' user together; one worker's are bounded by its control group


def confine(
    order: Spawn, kept: Sequence[int], parent: int, settings: WorkerSettings
) -> tuple[str, ...]:
    """Turn the forked process into an unprivileged one that holds stderr and the descriptors `kept`.

    What this kernel or the broker's own privileges may not give is tried; what could not be had is
    returned, for people. The rest must succeed.
    Raises: OSError; ParentGone.
    """
    lacks = _Lacks()
    is_root = os.geteuid() == 0
    identity = settings.identity() if is_root else None
    linux.die_with_parent(parent)
    linux.close_all_but(kept)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    linux.rename_process(order.name, f"furiosa-worker {order.name}")
    os.sched_setaffinity(0, order.cpus)  # before the engine counts CPUs or starts threads
    lacks.unless("score for the kernel's out-of-memory killer", _first_to_go)
    if order.cgroup:
        lacks.unless("control group", lambda: _join(Path(order.cgroup)))
    if not is_root:
        lacks.unless("user namespace", _own_users)  # which makes the rest possible
    elif os.getpid() != 1:
        lacks.append("process namespace")
    lacks.unless("network namespace", lambda: linux.unshare(linux.CLONE_NEWNET))
    lacks.unless("IPC namespace", lambda: linux.unshare(linux.CLONE_NEWIPC | linux.CLONE_NEWUTS))
    lacks.unless("view of the files", _own_files)
    _limit(settings, is_root)
    lacks.unless("empty bounding set", privileges.forbid_capabilities)
    if identity is not None:
        privileges.become(*identity)
    privileges.give_up_privileges()
    linux.die_with_parent(parent)  # again: changing the user cleared it
    lacks.unless("system-call filter", seccomp.install)
    return tuple(lacks)


class _Lacks(list[str]):
    def unless(self, name: str, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except OSError as error:
            self.append(f"{name} ({error.strerror})")


def _first_to_go() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _join(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def _own_users() -> None:
    """The same user and group, alone in a user namespace, with all capabilities in there for now."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{uid} {uid} 1")
    (own / "gid_map").write_text(f"{gid} {gid} 1")


def _own_files() -> None:
    mounts.unshare_mounts()
    mounts.hide_scratch()
    mounts.hide_processes()
    mounts.make_mounts_read_only()


def _limit(settings: WorkerSettings, is_root: bool) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,  # a core file would hold the client's tensors
        resource.RLIMIT_FSIZE: 0,  # of files, which it has none of
        resource.RLIMIT_NOFILE: settings.open_files,
        resource.RLIMIT_DATA: settings.memory_bytes,
    }
    if is_root:  # else they are the person's own, who may have any number of threads already
        limits[resource.RLIMIT_NPROC] = USER_THREADS
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
