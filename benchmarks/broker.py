"""A broker of its own for a benchmark: virtual cards, a temporary folder, gone afterwards."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30
EVERYBODY = ("--socket-mode", "666", "--data-plane", "off")


class NotStarted(Exception):
    """The text is what the broker said."""


@dataclass(frozen=True, slots=True)
class Broker:
    socket: Path
    pid: int

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"


@contextlib.contextmanager
def running(
    cards: int = 2, access: Sequence[str] = ("--embedded",), *settings: str
) -> Iterator[Broker]:
    """With its journal on, in the temporary folder; `access`: for one user, or EVERYBODY.

    FURIOSA_BROKER points to it meanwhile. Raises: NotStarted.
    """
    with tempfile.TemporaryDirectory(prefix="furiosa-bench-") as folder:
        if access is EVERYBODY:
            Path(folder).chmod(0o711)
        socket = Path(folder, "broker.sock")
        ready, ready_fd = os.pipe()
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "furiosa.broker", "--socket", str(socket)),
                    *access,
                    *("--state", folder, "--emulate", str(cards), "--ready-fd", str(ready_fd)),
                    *settings,
                ],
                pass_fds=(ready_fd,),
                stderr=log,
            )
        os.close(ready_fd)
        before = os.environ.get("FURIOSA_BROKER")
        try:
            if os.read(ready, 16) != b"READY\n":
                raise NotStarted(Path(folder, "log").read_text().strip())
            broker = Broker(socket, process.pid)
            os.environ["FURIOSA_BROKER"] = broker.address
            yield broker
        finally:
            os.close(ready)
            os.environ.pop("FURIOSA_BROKER", None)
            if before is not None:
                os.environ["FURIOSA_BROKER"] = before
            process.terminate()
            process.wait(START_SECONDS)
