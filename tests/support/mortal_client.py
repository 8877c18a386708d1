"""A client process that a test tells what to do, until it kills it.

It connects to the test's socket, locks a robust mutex in the memory that it gets there, and then runs
what it is told, one piece of Python after the other. A session is one connection; it may have several.
"""

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from furiosa.client import deathnote
from furiosa.common.channel import receive

CODE = f"import sys; sys.path[:0] = {sys.path!r}; from support.mortal_client import main; main()"


class MortalClient:
    """The test's end."""

    def __init__(self, process: "subprocess.Popen[str]", listener: socket.socket) -> None:
        self.process = process
        self.pid = process.pid
        self.listener = listener

    def accept(self) -> socket.socket:
        """A new session: the client connects and waits for memory."""
        self.run("connect()")
        return self.listener.accept()[0]

    def arm(self) -> int:
        """The client locks the mutex of its newest session; its thread's number."""
        return int(self.run("answer = arm()"))

    def run(self, code: str) -> str:
        """Has the client run some code; what that left in `answer`, nothing if it did not survive."""
        self.order(code)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def order(self, code: str) -> None:
        """As `run`, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()


@contextmanager
def mortal_client(folder: Path, *arguments: str) -> Iterator[MortalClient]:
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(256)
        command = [sys.executable, "-c", CODE, path, *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield MortalClient(process, listener)
            finally:
                process.kill()
    Path(path).unlink()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a test may have it abort
    sessions: list[socket.socket] = []
    words: list[Any] = []

    def connect() -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(sys.argv[1])
        sessions.append(sock)

    def arm() -> int:
        _, (memory,) = receive(sessions[-1])
        note = deathnote.arm(memory)
        assert note is not None
        import ctypes
        import mmap

        words.append(ctypes.c_uint32.from_buffer(mmap.mmap(memory, 4096)))
        return note.thread_id

    names: dict[str, Any] = {"connect": connect, "arm": arm, "words": words, "sessions": sessions}
    for line in sys.stdin:
        exec(json.loads(line), names)
        sys.stdout.write(f"{names.pop('answer', '')}\n")
        sys.stdout.flush()
