"""A killed owner's core: from SIGKILL until the next waiter has the lease, small owners and big ones."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import broker
from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, within
from benchmarks.networks import mnistnet
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.compiler import CompilerOptions, compile

LIMIT_MS = 20.0
PE0 = DeviceSpec.parse("npu:0:0")

OWNER = """
import sys, threading
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
enf = sys.stdin.buffer.read()
ballast = bytearray({megabytes} << 20)
ballast[::4096] = b"x" * len(ballast[::4096])
connection = Connection.open(client="owner")
lease = connection.acquire(DeviceSpec.parse("npu:0:0"))
connection.load_program(lease.id, enf)
print("ready", flush=True)
threading.Event().wait()
"""


def figures(effort: Effort) -> Iterator[Found]:
    enf = compile(mnistnet(), CompilerOptions(target="warboy"))
    with broker.running(1):
        for megabytes, name, rounds in (
            (30, "30MB", effort.small_owners),
            (3000, "3GB", effort.big_owners),
        ):
            if _available_megabytes() < 2 * megabytes:
                yield Skipped(f"acquire.after_kill.{name}", "too little memory is free")
                continue
            yield within(
                f"acquire.after_kill.{name}",
                [_milliseconds(megabytes, enf) for _ in range(rounds)],
                LIMIT_MS,
                unit="ms",
                against="the bound on the p99: SIGKILL of the owner to the next waiter's lease",
                conditions="the owner's worker has a small program loaded and is killed with it",
            )


def _available_megabytes() -> int:
    """Source: proc(5), MemAvailable, in kB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def _milliseconds(megabytes: int, enf: bytes) -> float:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(megabytes=megabytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    owner.stdin.write(enf)
    owner.stdin.close()
    owner.stdout.readline()
    killed = 0.0

    def kill() -> None:
        nonlocal killed
        killed = time.perf_counter()
        owner.kill()

    with Connection.open(client="waiter") as waiter:
        timer = threading.Timer(0.05, kill)  # by then the waiter waits
        timer.start()
        waiter.acquire(PE0, wait_limit=60)
        elapsed = time.perf_counter() - killed
    timer.join()
    owner.wait()
    owner.stdout.close()
    return elapsed * 1000
