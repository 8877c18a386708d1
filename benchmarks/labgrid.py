"""A labgrid coordinator and its clients, in a Python environment of their own."""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Outcome
from benchmarks.cores import SERVER, pin
from benchmarks.load import LEAD_SECONDS, Slot, busy_between, line, start, stop, tell

PIN = "labgrid==26.0.1"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "labgrid"
CLIENT = Path(__file__).with_name("labgrid_client.py")
INSTALL_SECONDS = 600
START_SECONDS = 30
STOP_SECONDS = 30


class NotInstalled(Exception):
    """The text is the last that the installer said."""


def install() -> None:
    """Make the environment, unless it is there. Raises: NotInstalled."""
    if (CACHE / "bin" / "labgrid-coordinator").exists():
        return
    for command in (
        [sys.executable, "-m", "venv", str(CACHE)],
        [str(CACHE / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", PIN],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except subprocess.CalledProcessError as exc:
            said = exc.stderr.decode().strip().splitlines() or ["it failed"]
            raise NotInstalled(said[-1]) from None
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise NotInstalled(str(exc)) from None


@dataclass(frozen=True, slots=True)
class Coordinator:
    pid: int
    clients: "subprocess.Popen[str]"

    def run(self, count: int, seconds: float) -> Slot:
        """`count` never less than the last time."""
        starts = time.monotonic() + LEAD_SECONDS
        ends = starts + seconds
        tell(self.clients, {"clients": count, "starts": starts, "ends": ends})
        busy = busy_between(self.pid, starts, ends)
        return Slot([Outcome(**outcome) for outcome in json.loads(line(self.clients))], busy)


@contextlib.contextmanager
def running() -> Iterator[Coordinator]:
    """On a port of loopback that the kernel chose. Raises: NotInstalled."""
    install()
    with tempfile.TemporaryDirectory(prefix="furiosa-labgrid-") as folder:
        output = Path(folder, "output")  # it prints a line for each call
        with output.open("wb") as file:
            coordinator = subprocess.Popen(
                [CACHE / "bin" / "labgrid-coordinator", "--listen", "127.0.0.1:0"],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        try:
            target = _target(coordinator, output)
            pin(coordinator.pid, SERVER)
            # -P: in its own folder "labgrid" would be this file
            process = start([str(CACHE / "bin" / "python"), "-P", str(CLIENT), target])
            try:
                if line(process) != "ready\n":
                    raise NotInstalled("its clients cannot start")
                yield Coordinator(coordinator.pid, process)
            finally:
                stop(process)
        finally:
            coordinator.terminate()
            coordinator.wait(STOP_SECONDS)


def _target(coordinator: "subprocess.Popen[bytes]", output: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while coordinator.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"^listening on (\S+)$", output.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise NotInstalled(output.read_text().strip()[-500:])
