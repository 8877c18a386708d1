"""Client processes that say what they have reached and then wait to be killed."""

import subprocess
import sys
from collections.abc import Mapping

HOLD = """
import sys
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
ballast = bytearray({megabytes} << 20)
for at in range(0, len(ballast), 4096):
    ballast[at] = 1
connection = Connection.open(client="test")
lease = connection.acquire(DeviceSpec.parse({spec!r}))
print(lease.id, flush=True)
sys.stdin.read()
"""

RUN = """
import sys
import numpy
from furiosa.runtime.sync import create_runner
with open({enf!r}, "rb") as file:
    runner = create_runner(file.read(), device={spec!r})
inputs = [numpy.zeros(t.shape, t.numpy_dtype) for t in runner.model.inputs()]
runner.run(inputs)
print("running", flush=True)
while True:
    runner.run(inputs)
"""


class Client:
    """A Python process; `line()` is the next line it prints, or "" when it has ended."""

    def __init__(self, script: str, environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environ),
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        self.process.kill()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
