"""The systemd unit that we run as, and what systemd is doing with it: a stop and a restart both begin with
the same SIGTERM, and only systemctl tells them apart.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

ANSWER_SECONDS: Final = 5.0  # for systemctl, which asks systemd
_NO_MORE: Final = "stop"  # the type of a job after which nothing starts; a restart has its own


async def is_being_stopped() -> bool:
    """Whether systemd has been asked to stop the unit, and not to start it again.

    False when that cannot be told, e.g. without a systemctl.
    """
    unit = unit_of(Path("/proc/self/cgroup").read_text())
    if unit is None:
        return False
    try:
        process = await asyncio.create_subprocess_exec(
            *("systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain", unit),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return job_of(said.decode(errors="replace"), unit) == _NO_MORE


def unit_of(cgroups: str) -> str | None:
    """The service that a process with this /proc/<pid>/cgroup belongs to; None: to none."""
    for line in cgroups.splitlines():
        if line.startswith("0::"):
            names = line[3:].split("/")
            return next((name for name in names if name.endswith(".service")), None)
    return None


def job_of(listed: str, unit: str) -> str | None:
    """The type of the unit's job in what `systemctl list-jobs` printed: number, unit, type, state."""
    for line in listed.splitlines():
        match line.split():
            case [_, name, kind, _] if name == unit:
                return kind
    return None
