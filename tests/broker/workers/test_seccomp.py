"""The filter of system calls, on both machines: run here by a model of the kernel's interpreter.

That the kernel takes it for what it is, is tried in test_isolation.py.
"""

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.workers.child import seccomp, syscalls
from furiosa.broker.workers.child.seccomp import ALLOW, ARCHITECTURES, FAIL, KILL
from support.bpf import verdict

PID = 4711
MACHINES = ("x86_64", "aarch64")
EPERM, ENOSYS = FAIL | errno.EPERM, FAIL | errno.ENOSYS
CONDITIONAL = {name: numbers for name, (numbers, _) in syscalls.conditional(PID).items()}
TABLES = (syscalls.ALLOWED, syscalls.UNKNOWN, syscalls.HOSTILE, CONDITIONAL)


def number_of(machine: str, name: str) -> int | None:
    [numbers] = [table[name] for table in TABLES if name in table]
    return numbers.x86_64 if machine == "x86_64" else numbers.aarch64


def judge(machine: str, number: int, *arguments: int) -> int:
    return verdict(seccomp.program(machine, PID), ARCHITECTURES[machine].audit, number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_ends_as_its_table_says(machine: str) -> None:
    expected = {}
    for table, action in zip(TABLES, (ALLOW, ENOSYS, KILL, None), strict=True):
        for name in table:
            number = number_of(machine, name)
            if number is not None:
                assert number not in expected, name
                expected[number] = action
    for number in range(syscalls.NEWEST + 1):
        action = expected.get(number, EPERM)
        if action is not None:
            assert judge(machine, number) == action
    assert judge(machine, syscalls.NEWEST + 1) == ENOSYS


@given(st.sampled_from(MACHINES), st.integers(0, 2**32 - 1))
def test_calls_of_another_architecture_are_the_end(machine: str, architecture: int) -> None:
    for number in (0, 59, 63, 0x4000_0000):
        found = verdict(seccomp.program(machine, PID), architecture, number)
        assert found == KILL or architecture == ARCHITECTURES[machine].audit


def test_x32_is_the_end() -> None:
    for number in (0x4000_0000, 0x4000_0000 + 39, 0x7FFF_FFFF, -1):
        assert judge("x86_64", number) == KILL


READ, WRITE, CREATE = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, os.O_WRONLY, os.O_CREAT
THREAD = 0x003D_0F00  # as glibc makes them
UPPER = 0xDEAD_BEEF_0000_0000  # which the kernel ignores where an int is expected


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "action"),
    [
        ("mmap", (0, 4096, 3, 0x01, 5), ALLOW),
        ("mmap", (0, 4096, 3, 0x2_0022), ALLOW),  # the stack of a thread
        ("mmap", (0, 4096, 3, 0x21), EPERM),
        ("mmap", (0, 4096, 3, 0x23), EPERM),
        ("mmap", (0, 4096, 3, 0x122), EPERM),
        ("openat", (-100 % 2**64, 0, READ), ALLOW),
        ("openat", (-100 % 2**64, 0, READ | UPPER), ALLOW),
        ("openat", (-100 % 2**64, 0, WRITE), EPERM),
        ("openat", (-100 % 2**64, 0, os.O_RDWR), EPERM),
        ("openat", (-100 % 2**64, 0, CREATE), EPERM),
        ("openat", (-100 % 2**64, 0, os.O_TRUNC), EPERM),
        ("openat", (-100 % 2**64, 0, os.O_TMPFILE), EPERM),
        ("openat", (-100 % 2**64, 0, os.O_PATH), ALLOW),
        ("clone", (THREAD,), ALLOW),
        ("clone", (17,), EPERM),  # fork
        ("clone", (0x4111,), EPERM),  # vfork
        ("clone", (THREAD | 0x2_0000,), EPERM),
        ("clone", (THREAD | 0x1000_0000,), EPERM),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (PID + 1, PID + 1, 6), EPERM),
        ("fcntl", (5, 1034), ALLOW),
        ("fcntl", (5, 8), EPERM),  # F_SETOWN
        ("fcntl", (5, 1033), EPERM),  # F_ADD_SEALS
        ("ioctl", (2, 0x5401), ALLOW),
        ("ioctl", (2, 0x5412), EPERM),  # TIOCSTI
        ("ioctl", (2, 0x5412 | UPPER), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), EPERM),  # PR_SET_PDEATHSIG
        ("prlimit64", (0, 7, 0, 0x7FFF_0000_1000), ALLOW),
        ("prlimit64", (PID, 7, 0, 0x7FFF_0000_1000), ALLOW),
        ("prlimit64", (PID + 1, 7, 0, 0x7FFF_0000_1000), EPERM),
        ("prlimit64", (0, 7, 0x7FFF_0000_1000, 0), EPERM),
        ("prlimit64", (0, 7, 0x7FFF_0000_0000, 0), EPERM),
    ],
)
def test_some_calls_depend_on_what_is_asked(
    machine: str, name: str, arguments: tuple[int, ...], action: int
) -> None:
    number = number_of(machine, name)
    assert number is not None
    assert judge(machine, number, *arguments) == action


def test_the_old_open_is_held_to_the_same() -> None:
    assert judge("x86_64", 2, 0, READ) == ALLOW
    assert judge("x86_64", 2, 0, WRITE) == EPERM


def test_a_machine_without_tables_is_named() -> None:
    with pytest.raises(OSError, match="no filter for riscv64"):
        seccomp.program("riscv64", PID)


HEADERS = {
    "x86_64": ("asm/unistd_64.h", "x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": ("asm-generic/unistd.h",),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    paths = [Path("/usr/include", name) for name in HEADERS[machine]]
    text = next((path.read_text() for path in paths if path.exists()), None)
    if text is None:
        pytest.skip(f"no kernel headers for {machine} are installed")
    defined = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", text, re.MULTILINE)
    numbers = {name: int(number) for name, number in defined}
    if machine == "aarch64":
        numbers["newfstatat"] = numbers["fstatat"]
    for table in TABLES:
        for name in table:
            assert number_of(machine, name) == numbers.get(name), name
    assert numbers["seccomp"] == ARCHITECTURES[machine].seccomp
