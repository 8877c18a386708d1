"""A killed owner's core: from SIGKILL until the next waiter has the lease, small owners and big ones."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.figures import Figure, within
from benchmarks.inference import digits_int8
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.compiler import CompilerOptions, compile

LIMIT_MS = 100.0
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


def figures() -> Iterator[Figure]:
    enf = compile(digits_int8(), CompilerOptions(target="warboy"))
    for megabytes, name, rounds in ((30, "30MB", 20), (3000, "3GB", 5)):
        yield within(
            f"acquire.after_kill_{name}",
            [_milliseconds(megabytes, enf) for _ in range(rounds)],
            LIMIT_MS,
            unit="ms",
            against="the bound: SIGKILL of an owner with a running worker to the waiter's lease",
        )


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
