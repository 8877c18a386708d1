"""How workers are started and bounded. Built once; the zygote gets a copy as JSON."""

import dataclasses
import json
import os
import pwd
from dataclasses import dataclass, field
from typing import Final, Self

CARD_BYTES: Final = 16 * 1024**3  # the DRAM of one card


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Durations are in seconds, sizes in bytes."""

    user: str = "nobody"  # whom workers become when the broker is root
    cpus: tuple[int, ...] = ()  # CPUs to place cores on; empty: those the broker may use
    cores_per_card: int = 2  # what the whole card (npu0) means
    zygote_timeout: float = 60.0  # until the zygote has imported its libraries; a cold disk is slow
    ready_timeout: float = 10.0  # from the fork until the worker says READY
    load_timeout: float = 30.0  # until a program is loaded; resnet50 takes 0.06
    request_timeout: float = 5.0  # until any other request is answered; waits for one run at most
    run_timeout: float = 60.0  # that one run may take; what follows waits for it
    # Of a device file: what its programs together may ask for, and RLIMIT_DATA of its worker, whatever
    # they ask for. By default a card's DRAM or what there is. Arenas do not count.
    memory_bytes: int = field(default_factory=lambda: min(CARD_BYTES, _physical_bytes()))
    max_threads: int = 64  # of a worker; holds only where there is a `cgroup`
    open_files: int = 256  # RLIMIT_NOFILE of a worker; a queue takes three
    cgroup: str = ""  # folder of a control group (v2) delegated to the broker; empty: none
    max_enf_bytes: int = 512 * 1024**2
    max_programs: int = 64  # of a lease
    max_queues: int = 32  # of a device file
    max_lease_arena_bytes: int = 4 * 1024**3  # of all queues of a lease
    # of all queues; most of it may be touched by clients and is theirs, but the broker handed it out
    max_total_arena_bytes: int = field(default_factory=lambda: _physical_bytes() // 2)
    max_bindings: int = 256  # of a queue: pairs of slots kept bound to a program
    engine: str = "furiosa.broker.workers.child.loader:load"  # module:function of a `Loader`

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`; the text comes from the broker's own command line."""
        values = json.loads(text)
        return cls(**{**values, "cpus": tuple(values["cpus"])})

    def identity(self) -> tuple[int, int]:
        """User and group id of `user`. Raises: ValueError when there is no such user."""
        try:
            entry = pwd.getpwnam(self.user)
        except KeyError:
            raise ValueError(f"there is no user {self.user!r} to run workers as") from None
        return entry.pw_uid, entry.pw_gid
