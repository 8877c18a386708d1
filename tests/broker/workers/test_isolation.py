"""What a tenant's program can do to get out, tried from inside of real workers."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from furiosa.broker.workers import linux
from furiosa.broker.workers.child.syscalls import HOSTILE
from support.escapes import LACKS, outcomes
from support.workers import fake_engines

FILTERED = "support.escapes:load"
UNFILTERED = "support.unfiltered_escapes:load"
ON_X86 = platform.machine() == "x86_64"
KILLED = "killed by signal 31 (SIGSYS)"

HARMLESS = {"thread": "done", "memory in its bounds": "done"}
# What the filter answers; whoever the worker is, and in whichever namespaces.
REFUSED = {
    "tcp socket": "EPERM",
    "unix socket": "EPERM",
    "write to /tmp": "EPERM",
    "write to stderr's file": "EPERM",
    "fork": "EPERM",
    "clone3": "ENOSYS",
    "a call of the future": "ENOSYS",
    "signal its parent": "EPERM",
    "signal everybody": "EPERM",
    "memory out of its bounds": "MemoryError",
    "shared memory": "EPERM",
    "memory file": "EPERM",
    "leave its cpu": "EPERM",
    "raise a limit": "EPERM",
    "outlive its parent": "EPERM",
    "be dumpable": "EPERM",
    "replace the filter": "EPERM",
    "become root": "EPERM",
    "type into the terminal": "EPERM",
}
OTHER_GATES = ("x32", "32 bits") if ON_X86 else ()
LETHAL = dict.fromkeys((*HOSTILE, "mount over /tmp", *OTHER_GATES), KILLED)
HIDDEN = {"list /tmp": "", "list /proc": "cpuinfo"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")


def as_ordinary_user(names: Sequence[str], engine: str = FILTERED, *options: str) -> dict[str, str]:
    """Outcomes in workers of a broker that is not root."""
    command = [sys.executable, "-m", "support.nonroot", *options, "-m", "support.escapes", engine]
    done = subprocess.run([*command, *names], capture_output=True, text=True, timeout=60)
    if done.returncode and "linux.unshare" in done.stderr:
        pytest.skip("no user namespace can be had here to be an ordinary user in")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@needs_root
async def test_workers_of_root_cannot_get_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_engines(monkeypatch)
    expected = HARMLESS | REFUSED | LETHAL | HIDDEN | {"read /etc/shadow": "EACCES"}
    assert await outcomes(list(expected)) == expected | {LACKS: ""}


def test_workers_of_an_ordinary_user_cannot_get_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_engines(monkeypatch)
    expected = HARMLESS | REFUSED | LETHAL | HIDDEN
    assert as_ordinary_user(list(expected)) == expected | {LACKS: ""}


def test_without_namespaces_the_filter_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_engines(monkeypatch)
    expected = HARMLESS | REFUSED | LETHAL
    found = as_ordinary_user(list(expected), FILTERED, "--without-namespaces")
    lacks = found.pop(LACKS)
    assert found == expected
    assert "system-call filter" not in lacks
    for layer in ("user namespace", "network namespace", "view of the files", "bounding set"):
        assert layer in lacks


@needs_root
async def test_without_a_filter_the_other_layers_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_engines(monkeypatch)
    expected = HIDDEN | {
        "thread": "done",
        "write to /tmp": "EROFS",
        "write to stderr's file": "EINVAL",  # a pipe
        "read /etc/shadow": "EACCES",
        "memory out of its bounds": "MemoryError",
        "raise a limit": "EPERM",
        "become root": "EPERM",
        "signal everybody": "ESRCH",  # it is alone in its namespace
        "mount over /tmp": "EPERM",
        "reboot": "EPERM",
    }
    found = await outcomes(list(expected), UNFILTERED)
    assert found.pop(LACKS) == "system-call filter (as on a kernel without)"
    assert found == expected


def test_without_a_filter_an_ordinary_user_still_has_namespaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_engines(monkeypatch)
    expected = HIDDEN | {
        "write to /tmp": "EROFS",
        "mount over /tmp": "EPERM",
        "is dumpable": "0",
        "raise a limit": "EPERM",
        "become root": "EINVAL",  # its namespace has no such user
    }
    found = as_ordinary_user(list(expected), UNFILTERED)
    assert found.pop(LACKS) == "system-call filter (as on a kernel without)"
    assert found == expected


@needs_root
async def test_a_worker_in_the_brokers_process_namespace_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_engines(monkeypatch)
    found = await outcomes(["list /proc"], "support.namespaceless_escapes:load")
    assert found == {"list /proc": "cpuinfo", LACKS: "process namespace"}


def test_a_call_that_fails_says_why() -> None:
    with pytest.raises(FileNotFoundError):
        linux.check(linux.libc.chdir(b"/nonexistent"))
    with pytest.raises(OSError, match="Invalid argument"):
        linux.prctl(0x7FFF_FFFF)


def test_nothing_was_left_outside() -> None:
    assert not Path("/tmp/escaped").exists()
