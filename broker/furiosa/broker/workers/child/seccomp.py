"""The system-call filter of a worker: classic BPF, put together here and handed to the kernel.

`program` is pure. Every call ends in one of four ways: it is made, it fails with EPERM, it fails as if
the kernel did not know it (ENOSYS), or it is the end of the process (SIGSYS).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.broker.workers.child import syscalls
from furiosa.broker.workers.child.syscalls import Numbers, Test
from furiosa.broker.workers.linux import check, libc

# Source: Linux, include/uapi/linux/{bpf_common,seccomp,audit}.h
_LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_GREATER: Final = 0x25
_JUMP_GREATER_EQUAL: Final = 0x35
_RETURN: Final = 0x06
KILL: Final = 0x8000_0000  # SECCOMP_RET_KILL_PROCESS
FAIL: Final = 0x0005_0000  # SECCOMP_RET_ERRNO, and the number
ALLOW: Final = 0x7FFF_0000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32: Final = (
    0x4000_0000  # set in the numbers of calls with 32-bit pointers, which nothing here makes
)
_SET_MODE_FILTER: Final = 1
# Else kernels before 5.16 slow the whole process down against attacks from inside of it, where nothing
# is that its program may not see.
_FLAG_SPEC_ALLOW: Final = 4
_INSTRUCTION: Final = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class Architecture:
    audit: int  # AUDIT_ARCH_*
    seccomp: int  # number of seccomp(2)


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": Architecture(0xC000_003E, 317),
    "aarch64": Architecture(0xC000_00B7, 277),
}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def program(machine: str, pid: int) -> bytes:
    """The filter for a `machine` as uname calls it and a process that calls itself `pid`.

    Raises: OSError, ENOSYS, for a machine without tables.
    """
    known = ARCHITECTURES.get(machine)
    if known is None:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    eperm, enosys = FAIL | errno.EPERM, FAIL | errno.ENOSYS
    code = [_load(_ARCH), *_unless(_JUMP_EQUAL, known.audit, KILL), _load(_NR)]
    if machine == "x86_64":
        code += _when(_JUMP_GREATER_EQUAL, _X32, [_return(KILL)])
    for table, action in (
        (syscalls.ALLOWED, ALLOW),
        (syscalls.UNKNOWN, enosys),
        (syscalls.HOSTILE, KILL),
    ):
        for numbers in table.values():
            code += _for(machine, numbers, [_return(action)])
    for numbers, tests in syscalls.conditional(pid).values():
        body = [step for test in tests for step in _test(test, eperm)]
        code += _for(machine, numbers, [*body, _return(ALLOW)])
    code += [*_when(_JUMP_GREATER, syscalls.NEWEST, [_return(enosys)]), _return(eperm)]
    return b"".join(code)


def install() -> None:
    """Filter every system call of this thread and of those it will start, for good.

    For a process with one thread that can gain no privileges any more.
    Raises: OSError when the kernel cannot, or there are no tables for this machine.
    """
    machine = os.uname().machine
    content = program(machine, os.getpid())
    filter_ = _Program(len(content) // _INSTRUCTION.size, content)
    check(
        libc.syscall(
            ctypes.c_long(ARCHITECTURES[machine].seccomp),
            ctypes.c_uint(_SET_MODE_FILTER),
            ctypes.c_uint(_FLAG_SPEC_ALLOW),
            ctypes.byref(filter_),
        )
    )


def _load(offset: int) -> bytes:
    return _INSTRUCTION.pack(_LOAD_WORD, 0, 0, offset)


def _return(action: int) -> bytes:
    return _INSTRUCTION.pack(_RETURN, 0, 0, action)


def _when(jump: int, value: int, then: list[bytes]) -> list[bytes]:
    """`then`, which returns, if the comparison holds."""
    return [_INSTRUCTION.pack(jump, 0, len(then), value), *then]


def _unless(jump: int, value: int, action: int) -> list[bytes]:
    return [_INSTRUCTION.pack(jump, 1, 0, value), _return(action)]


def _for(machine: str, numbers: Numbers, then: list[bytes]) -> list[bytes]:
    number = numbers.x86_64 if machine == "x86_64" else numbers.aarch64
    return [] if number is None else _when(_JUMP_EQUAL, number, then)


def _test(test: Test, otherwise: int) -> list[bytes]:
    """Go on behind it if the test holds, else end with `otherwise`. Both machines are little-endian."""
    low = _ARGUMENTS + 8 * test.index
    code = [_load(low)]
    if test.mask != 0xFFFF_FFFF:
        code.append(_INSTRUCTION.pack(_AND, 0, 0, test.mask))
    for left, value in zip(range(len(test.values), 0, -1), test.values, strict=True):
        code.append(_INSTRUCTION.pack(_JUMP_EQUAL, left, 0, value))
    code.append(_return(otherwise))
    if test.pointer:
        code += [_load(low + 4), *_unless(_JUMP_EQUAL, 0, otherwise)]
    return code
