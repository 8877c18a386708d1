"""The example of a web service, started as a user starts it."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from support.digits import EXAMPLES

COMMAND = (sys.executable, str(Path(sys.executable).parent / "uvicorn"), "image_classify:app")


class Service:
    """`http` asks it. Where it listens is in its environment: the command line is what is shown."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        socket = folder / "http.sock"
        self._process = subprocess.Popen(
            COMMAND,
            cwd=EXAMPLES,
            env={**environ, "UVICORN_UDS": str(socket)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "Uvicorn running" in line:
                break
        else:
            raise AssertionError("".join(said))
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://service"
        )

    def stop(self) -> str:
        """What it said on the way out."""
        self.http.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        _, said = self._process.communicate()
        return said
