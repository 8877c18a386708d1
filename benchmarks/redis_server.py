"""A Redis server of its own for a benchmark, on a Unix socket."""

import contextlib
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 10.0
IN_MEMORY = ("--save", "", "--appendonly", "no")
EVERY_SECOND = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


def missing() -> str | None:
    """Why there can be none here."""
    if importlib.util.find_spec("redis") is None:
        return "the Python package redis is not installed"
    return None if shutil.which("redis-server") else "redis-server is not installed"


@contextlib.contextmanager
def running(*persistence: str) -> Iterator[tuple[str, int]]:
    """Path of its socket, and its pid."""
    with tempfile.TemporaryDirectory(prefix="furiosa-redis-") as folder:
        socket = f"{folder}/redis.sock"
        log = Path(folder, "log")
        process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder),
                *("--logfile", str(log), *persistence),
            ]
        )
        try:
            _wait(socket, process, log)
            yield socket, process.pid
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _wait(socket: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    import redis

    deadline = time.monotonic() + START_SECONDS
    with redis.Redis(unix_socket_path=socket) as connection:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError):
                connection.ping()
                return
            time.sleep(0.01)
    raise RuntimeError(f"redis-server does not answer: {log.read_text()}")
