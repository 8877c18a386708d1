"""Containers by podman and runc whose root has this machine's Python, and nothing else of its own.

Everything is in a temporary folder, also podman's state; the folder of CDI specifications is one only in the
mount namespace of the podman that is to see it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from support.clients import Steered

CDI: Final = Path("/var/run/cdi")
REPOSITORY: Final = Path(__file__).resolve().parents[2]
_OF_THE_MACHINE: Final = ("/usr", "/lib", "/lib64", "/bin", "/etc/ssl", "/etc/passwd", "/etc/group")
_IN_CDI: Final = 'mount --bind "$0" "$1" && shift && exec "$@"'


def why_not() -> str:
    """Why there can be no containers here; empty when there can."""
    if os.geteuid() != 0:
        return "containers are started as root here"
    missing = [tool for tool in ("podman", "runc", "conmon", "unshare") if not shutil.which(tool)]
    return f"no {', '.join(missing)} on this machine" if missing else ""


class Podman:
    """`folder` is a temporary one with a short name; `folder/cdi` has the specifications."""

    def __init__(self, folder: Path) -> None:
        if reason := why_not():
            pytest.skip(reason)
        self.folder = folder
        self.cdi = folder / "cdi"
        self.shared = folder / "shared"  # the same path in containers
        for each in (self.cdi, self.shared, folder / "root", folder / "run", folder / "rootfs"):
            each.mkdir()
        CDI.mkdir(parents=True, exist_ok=True)
        self._count = 0
        state = ("--root", str(folder / "root"), "--runroot", str(folder / "run"))
        self._podman = (
            "podman",
            *state,
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        )

    def start(
        self,
        *devices: str,
        user: str = "0",
        mounts: Sequence[str] = (),
        broker: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Steered:
        """A container with these CDI devices, which say where the broker is, or with `mounts` and `broker`,
        or `environ`.

        Raises: AssertionError when it cannot be started.
        """
        self._count += 1
        rootfs = self.folder / "rootfs" / str(self._count)
        rootfs.mkdir()
        command = [
            *("unshare", "-m", "sh", "-c", _IN_CDI, str(self.cdi), str(CDI)),
            *self.run(f"c{self._count}"),
            *("-i", "--user", user),
        ]
        for path in (*_OF_THE_MACHINE, sys.base_prefix, sys.prefix, REPOSITORY, self.shared):
            if Path(path).exists():
                command += ["-v", f"{path}:{path}:ro"]
        for mount in mounts:
            command += ["-v", mount]
        given = dict(environ or {})
        if broker:
            given["FURIOSA_BROKER"] = broker
        for name, value in given.items():
            command += ["-e", f"{name}={value}"]
        for device in devices:
            command += ["--device", device]
        command += ["--rootfs", str(rootfs)]
        return Steered(os.environ, within=command)

    def run(self, name: str) -> list[str]:
        """The first words of a command that runs a container."""
        return [
            *(*self._podman, "run", "--rm", "--runtime", "runc", "--network", "none"),
            *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"),
            *("--name", name),
        ]

    def within(self, name: str) -> list[str]:
        """The first words of a command that runs something in a container."""
        return [*self._podman, "exec", name]

    def close(self) -> None:
        subprocess.run(
            [*self._podman, "rm", "--all", "--force", "--time", "0"],
            capture_output=True,
            timeout=60,
            check=False,
        )
