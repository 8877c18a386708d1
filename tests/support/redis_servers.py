"""A real redis-server on loopback, with a password, plain or with TLS."""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Authority

START_SECONDS = 20.0
PASSWORD = "p@ss/word"

_missing = [
    *(["redis-server"] if shutil.which("redis-server") is None else []),
    *(["the Python package redis"] if importlib.util.find_spec("redis") is None else []),
]
needs_redis = pytest.mark.skipif(bool(_missing), reason=f"not installed: {', '.join(_missing)}")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """`url` is as FC_CACHE_STORE_URL takes it; `ca` is the authority to trust, with TLS."""

    port: int
    url: str
    ca: Path | None
    process: "subprocess.Popen[bytes]"


@contextlib.contextmanager
def running(*, tls: bool = False) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="fb", dir="/tmp") as name:
        folder = Path(name)
        port = _free_port()
        ca, listen = None, ["--port", str(port)]
        if tls:
            authority = Authority(folder)
            issued = authority.server()
            ca = authority.path
            listen = [
                *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
                *("--tls-cert-file", str(issued.certificate), "--tls-key-file", str(issued.key)),
                *("--tls-ca-cert-file", str(ca)),
            ]
        log = folder / "log"
        process = subprocess.Popen(
            [
                *("redis-server", *listen, "--bind", "127.0.0.1", "--requirepass", PASSWORD),
                *("--save", "", "--appendonly", "no", "--dir", name, "--logfile", str(log)),
            ]
        )
        try:
            _wait(port, process, log)
            scheme = "rediss" if tls else "redis"
            url = f"{scheme}://:p%40ss%2Fword@127.0.0.1:{port}"
            yield RedisServer(port, url, ca, process)
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        time.sleep(0.01)
    raise RuntimeError(f"redis-server does not listen: {log.read_text() if log.exists() else ''}")
