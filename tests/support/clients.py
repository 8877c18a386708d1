"""Client processes that say what they have reached and then wait to be killed, or do what they are told."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from furiosa.client.sync import Connection

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe

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

STEERED = """
import json, math, os, sys
from furiosa.client.sync import Connection
from furiosa.common.faults import SlowDma
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec

if uid is not None:  # only now: the interpreter may stand where nobody else can read
    os.setgroups(())
    os.setgid(uid)
    os.setuid(uid)

def connect():
    global connection
    connection = Connection.open(client="test")

def acquire(text, wait_limit=None, **terms):
    return connection.acquire(DeviceSpec.parse(text), wait_limit, **terms).id

def notice(lease):  # the next ones
    while not (notices := connection.take_notices(lease)):
        connection.wait((), lease)
    return [[type(n).__name__, n.cause] for n in notices]

for line in sys.stdin:
    code = json.loads(line)
    try:
        try:
            compiled = compile(code, "order", "eval")
        except SyntaxError:
            answer = exec(code)
        else:
            answer = eval(compiled)
        print(json.dumps([answer, None, ""], default=str), flush=True)
    except Exception as exc:
        print(json.dumps([None, type(exc).__name__, str(exc)]), flush=True)
"""


def inherit(pipe: "Pipe[Any, Any]") -> None:
    """For a child process: takes the lease whose id comes by `pipe`, says how it has it, releases it."""
    with Connection.open(client="child") as connection:
        pipe.send("here")
        lease = connection.renew(pipe.recv())
        pipe.send((lease.owner.pid, lease.state))
        connection.release(lease.id)


class Raised(Exception):
    """What a steered client's order raised: "DeviceBusy: ..."."""


class Client:
    """A Python process; `line()` is the next line it prints, or "" when it has ended.

    `within`: the words of a command that runs what comes after them somewhere else.
    """

    def __init__(self, script: str, environ: Mapping[str, str], within: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*within, sys.executable, "-c", script],
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


class Steered(Client):
    """Has one connection, and runs what it is told: `STEERED` says which names there are.

    As user `uid`, in the group of that number alone; None: as this process.
    """

    def __init__(
        self, environ: Mapping[str, str], uid: int | None = None, within: Sequence[str] = ()
    ) -> None:
        super().__init__(f"uid = {uid}\n{STEERED}", environ, within)
        try:
            self.ask("connect()")
        except BaseException:
            self.__exit__()
            raise

    def ask(self, code: str) -> Any:
        """The value of an expression; None for statements. Raises: Raised."""
        self.order(code)
        return self.answer()

    def order(self, code: str) -> None:
        """As `ask`; the answer is taken later."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Raises: Raised; AssertionError when the client has ended."""
        line = self.line()
        assert line, "the client has ended"
        value, error, text = json.loads(line)
        if error is not None:
            raise Raised(f"{error}: {text}")
        return value
