"""A real broker process with virtual cards, in a folder of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.waiting import block_until

START_SECONDS = 60
FURIOSACTL = "from furiosa.cli.furiosactl import main; raise SystemExit(main())"
BROKER = (sys.executable, "-m", "furiosa.broker")


class Daemon:
    """Started by `start`, ended by `stop`. `environ` points clients at it.

    `embedded`: only this user is let in; else everybody is. `program` is what gets the settings.
    """

    def __init__(
        self,
        cards: int = 1,
        *settings: str,
        embedded: bool = True,
        program: Sequence[str] = BROKER,
    ) -> None:
        # short: a Unix socket's path may have 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="fb"))
        self.socket = self.folder / "b.sock"
        self.handoff = self.folder / "b.sock.handoff"
        self.environ = {**os.environ, "FURIOSA_BROKER": f"unix:{self.socket}"}
        self._cards = cards
        self._program = program
        self._settings = settings
        if embedded:
            self._settings = ("--embedded", *settings)
        else:
            self.folder.chmod(0o711)
            self._settings = ("--socket-mode", "666", "--data-plane", "off", *settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def logged(self, text: str, times: int = 1) -> str:
        """The log, once it has the text so often: lines reach it after their effect."""
        block_until(lambda: self.log.count(text) >= times)
        return self.log

    def set(self, *settings: str) -> None:
        """Further settings, such as those that name a file in its folder, for the next start."""
        self._settings = (*self._settings, *settings)

    def start(self) -> None:
        """Returns when clients can connect."""
        ready, ready_fd = os.pipe()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._program,
                    *("--socket", str(self.socket), "--state", str(self.folder)),
                    *("--emulate", str(self._cards)),
                    *("--ready-fd", str(ready_fd), "--drain-grace", "0.2", *self._settings),
                ],
                pass_fds=(ready_fd,),
                stderr=log,
            )
        os.close(ready_fd)
        with open(ready, "rb") as pipe:
            said = pipe.readline()
        if said != b"READY\n":
            self.wait()
            raise AssertionError(self.log)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(START_SECONDS)

    def descendants(self) -> dict[int, str]:
        """Zygote and workers by pid, with their command lines."""
        return {
            pid: _command_line(pid)
            for child in _children(self.pid)
            for pid in (child, *_tree(child))
        }

    def open_descendants(self) -> list[int]:
        """Pidfds of the zygote and the workers, but for those that end while they are looked at."""
        pidfds = []
        for pid in self.descendants():
            with contextlib.suppress(ProcessLookupError):
                pidfds.append(os.pidfd_open(pid))
        return pidfds

    def workers(self) -> list[int]:
        """Pids of the processes that run programs."""
        return [pid for child in _children(self.pid) for pid in _tree(child)]

    def furiosactl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", FURIOSACTL, *arguments]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self.signal(signal.SIGTERM)
            self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            # a thread may end while the others are read; its children stay the process's
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children += map(int, (task / "children").read_text().split())
    return children


def _tree(pid: int) -> list[int]:
    return [p for child in _children(pid) for p in (child, *_tree(child))]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
