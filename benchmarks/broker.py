"""A broker of its own for a benchmark: two virtual cards, a temporary folder, gone afterwards."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 30


@contextlib.contextmanager
def running(cards: int = 2) -> Iterator[Path]:
    """Path of the broker's socket; FURIOSA_BROKER points to it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="furiosa-bench-") as folder:
        socket = Path(folder, "broker.sock")
        ready, ready_fd = os.pipe()
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "furiosa.broker", "--embedded", "--socket", socket),
                    *("--state", folder, "--emulate", str(cards), "--ready-fd", str(ready_fd)),
                ],
                pass_fds=(ready_fd,),
                stderr=log,
            )
        os.close(ready_fd)
        try:
            if os.read(ready, 16) != b"READY\n":
                raise RuntimeError(Path(folder, "log").read_text())
            before = os.environ.get("FURIOSA_BROKER")
            os.environ["FURIOSA_BROKER"] = f"unix:{socket}"
            yield socket
        finally:
            os.close(ready)
            os.environ.pop("FURIOSA_BROKER", None)
            if before is not None:
                os.environ["FURIOSA_BROKER"] = before
            process.terminate()
            process.wait(START_SECONDS)
