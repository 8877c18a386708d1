"""A loader whose "programs" try what a worker must not be able to do, and tell how it went.

The program is the name of an attempt. Its outcome, which comes back as the detail of InvalidProgram, is
the name of an errno, "MemoryError", or the attempt's result as text. `python -m support.escapes NAME...`
prints the outcomes as JSON, and under "lacks" what the workers say they lack.
"""

import asyncio
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from furiosa.broker.workers.child.program import Admit, LoadedProgram
from furiosa.broker.workers.child.syscalls import HOSTILE, Numbers
from furiosa.common.errors import InvalidProgram, WorkerDied
from support.workers import a_pool

MEMORY_BYTES: Final = 1024**3  # of the workers that try
LACKS: Final = "lacks"

_libc: Final = ctypes.CDLL(None, use_errno=True)
_X86: Final = platform.machine() == "x86_64"
_CLONE3: Final = Numbers(435, 435)
_MEMFD_CREATE: Final = Numbers(319, 279)
_NO_SUCH_CALL: Final = Numbers(1000, 1000)
_SECOND_FILTER: Final = Numbers(317, 277)
_X32_GETPID: Final = Numbers(0x4000_0000 + 39, None)


def _call(numbers: Numbers, *arguments: int) -> str:
    number = numbers.x86_64 if _X86 else numbers.aarch64
    assert number is not None
    result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, (*arguments, 0, 0, 0)))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return "done"


def _prctl(option: int, argument: int) -> str:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "done"


def _done(attempt: Callable[[], Any]) -> str:
    attempt()
    return "done"


def _fork() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "done"


def _call_of_32_bits() -> str:
    """getpid by the gate of 32-bit programs, where numbers mean something else."""
    code = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    return str(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())


def _thread() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append("done"))
    thread.start()
    thread.join()
    return found[0]


def _shared_memory() -> str:
    mmap.mmap(-1, 2 * MEMORY_BYTES).close()
    return "done"


def _raise_limit() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    except ValueError as error:  # what it makes of EPERM
        raise PermissionError(errno.EPERM, "") from error
    return "done"


def _mount() -> str:
    if _libc.mount(b"none", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "done"


def _type_into_terminal() -> str:
    tiocsti = 0x5412
    fcntl.ioctl(2, tiocsti, b"x")
    return "done"


ATTEMPTS: Final[Mapping[str, Callable[[], str]]] = {
    "tcp socket": lambda: _done(lambda: socket.socket().close()),
    "unix socket": lambda: _done(lambda: socket.socket(socket.AF_UNIX).close()),
    "write to /tmp": lambda: _done(lambda: Path("/tmp/escaped").write_bytes(b"x")),
    "write to stderr's file": lambda: _done(lambda: os.ftruncate(2, 0)),
    "read /etc/shadow": lambda: _done(lambda: Path("/etc/shadow").read_bytes()),
    "list /tmp": lambda: ",".join(os.listdir("/tmp")),
    "list /proc": lambda: ",".join(os.listdir("/proc")),
    "thread": _thread,
    "fork": _fork,
    "clone3": lambda: _call(_CLONE3),
    "a call of the future": lambda: _call(_NO_SUCH_CALL),
    "signal its parent": lambda: _done(lambda: os.kill(os.getppid(), 0)),
    "signal everybody": lambda: _done(lambda: os.kill(-1, signal.SIGCONT)),
    "memory in its bounds": lambda: _done(lambda: bytearray(MEMORY_BYTES // 2)),
    "memory out of its bounds": lambda: _done(lambda: bytearray(2 * MEMORY_BYTES)),
    "shared memory": _shared_memory,
    "memory file": lambda: _call(_MEMFD_CREATE),
    "leave its cpu": lambda: _done(lambda: os.sched_setaffinity(0, range(os.cpu_count() or 1))),
    "raise a limit": _raise_limit,
    "outlive its parent": lambda: _prctl(1, 0),
    "be dumpable": lambda: _prctl(4, 1),
    "is dumpable": lambda: str(_libc.prctl(3, 0, 0, 0, 0)),
    "replace the filter": lambda: _call(_SECOND_FILTER, 1),
    "become root": lambda: _done(lambda: os.setresuid(0, 0, 0)),
    "type into the terminal": _type_into_terminal,
    "mount over /tmp": _mount,
    "x32": lambda: _call(_X32_GETPID),
    "32 bits": _call_of_32_bits,
    **{name: lambda numbers=numbers: _call(numbers) for name, numbers in HOSTILE.items()},  # type: ignore[misc]
}


def load(data: bytes, pes: int, traced: bool, admit: Admit) -> LoadedProgram:
    try:
        outcome = ATTEMPTS[data.decode()]()
    except OSError as error:
        outcome = errno.errorcode[error.errno or 0]
    except MemoryError:
        outcome = "MemoryError"
    raise InvalidProgram("attempt", outcome)


async def outcomes(names: Sequence[str], engine: str = "support.escapes:load") -> dict[str, str]:
    """What came of each attempt; the cause of its death where it was the worker's last."""
    found = {}
    async with a_pool(engine=engine, memory_bytes=MEMORY_BYTES) as bench:
        for name in names:
            try:
                await bench.load("a", name.encode())
            except InvalidProgram as error:
                found[name] = error.detail
            except WorkerDied as error:
                found[name] = error.cause
        found[LACKS] = ", ".join(bench.pool.lacks)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(outcomes(sys.argv[2:], sys.argv[1]))))  # noqa: T201
