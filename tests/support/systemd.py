"""A systemd of our own: the real one, as first process of its own namespaces, with the units we give it.

It sees the machine's files, except that /run, /var/lib, /var/log and changes to /etc are its own and end
with it. Needs root, a systemd and a writable cgroup v2; `missing()` says which of these there is not.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.waiting import block_until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SYSTEMD = Path("/lib/systemd/systemd")
START_SECONDS = 60
TARGETS = ("sysinit", "basic", "sockets", "multi-user", "shutdown", "default")

# $1: its folder. What would be written outside is put on file systems that end with the namespace.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1/over"
mkdir "$1/over/etc" "$1/over/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/over/etc,workdir=$1/over/work" /etc
for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
exec env --ignore-environment PATH="$PATH" container=furiosa-test SYSTEMD_UNIT_PATH="$1/units" \\
    SYSTEMD_LOG_TARGET=null /lib/systemd/systemd --system --show-status=0
"""


def cgroup() -> Path | None:
    """Where the cgroup v2 tree is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    return None


def missing() -> str | None:
    """Why it cannot be started here."""
    if os.geteuid() != 0:
        return "only root can start a systemd in namespaces of its own"
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        return "no systemd on this machine"
    tree = cgroup()
    if tree is None or not os.access(tree, os.W_OK):
        return "no writable cgroup v2 on this machine"
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--cgroup"),
                "mount",
                "-t",
                "tmpfs",
                "t",
                "/run",
            ],
            check=True,
            capture_output=True,
        )
        return None
    return "no namespaces or no mounts for us on this machine"


class Systemd:
    """Started by `start`, ended by `stop`. Add files to `units` before."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
        self.units = self.folder / "units"
        for name in ("units", "over"):
            (self.folder / name).mkdir()
        for target in TARGETS:
            (self.units / f"{target}.target").write_text("[Unit]\n")
        tree = cgroup()
        assert tree is not None
        self._cgroup = tree / self.folder.name
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def install(self, *more: str, command: str | None = None) -> None:
        """The units of deploy/, with `command` in place of the daemon, and lines `more` for [Service].

        Its output goes to `log`.
        """
        for unit in (DEPLOY / "systemd").iterdir():
            shutil.copy(unit, self.units)
        folder = self.units / "furiosa-brokerd.service.d"
        folder.mkdir()
        start = command or f"{Path(sys.executable).parent / 'furiosa-brokerd'}"
        lines = ["[Service]", "ExecStart=", f"ExecStart={start}", *more]
        lines += [f"StandardOutput=append:{self.folder}/log", "StandardError=inherit"]
        # the sandbox hides homes and /tmp, where an interpreter and a checkout may be
        shown = {sys.base_prefix, sys.prefix, str(DEPLOY.parent), str(self.folder)}
        if any(path.startswith(("/root", "/home")) for path in shown):
            lines += ["ProtectHome=tmpfs"]
        lines += [f"BindPaths={' '.join(sorted(shown))}"]
        (folder / "test.conf").write_text("\n".join(lines) + "\n")

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Returns when it has started its default target."""
        self._cgroup.mkdir()
        self._process = subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', self._cgroup),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--ipc"),
                *("sh", "-c", BOOT, "boot", self.folder),
            ],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while self._state() not in ("running", "degraded"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("systemd does not start")
            time.sleep(0.02)

    def _state(self) -> str:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, ValueError):
            self._pid = int(children.read_text())
            done = self.run("systemctl", "is-system-running", check=False)
            return done.stdout.strip()
        return ""

    def command(self, *command: str | Path) -> list[str]:
        """To run `command` beside the units."""
        inside = ("nsenter", "--target", str(self._pid), "--mount", "--pid", "--cgroup", "--ipc")
        return [*inside, *map(str, command)]

    def path(self, inside: str) -> Path:
        """How one of its own files is called outside."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}{self.log}"
        return done

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments).stdout.strip()

    def show(self, name: str, unit: str = "furiosa-brokerd.service") -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def shows(self, name: str, value: str) -> None:
        """Returns when a property of the service is so."""
        block_until(lambda: self.show(name) == value)

    def logged(self, text: str, times: int = 1) -> None:
        """Returns when the log has the text so often."""
        block_until(lambda: self.log.count(text) >= times)

    def stop(self) -> None:
        """Its processes end with its process namespace."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                _removed(Path(folder))
        shutil.rmtree(self.folder, ignore_errors=True)


def _removed(folder: Path) -> None:
    """As soon as its last process is gone."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
