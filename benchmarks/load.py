"""Many client processes at once, told what to run and when; and how busy the server was meanwhile."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.client import Order, Outcome
from benchmarks.cores import CLIENTS, pin

LEAD_SECONDS = 0.05  # between the order and the start, so that all start together
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Slot:
    """What the clients did in one stretch of time. `busy` is the server's CPU seconds a second."""

    outcomes: list[Outcome]
    busy: float

    @property
    def cycles(self) -> list[int]:
        return [us for outcome in self.outcomes for us in outcome.cycles]

    @property
    def acquires(self) -> list[int]:
        return [us for outcome in self.outcomes for us in outcome.acquires]

    @property
    def counts(self) -> list[int]:
        """Of cycles, by client."""
        return [len(outcome.cycles) for outcome in self.outcomes]

    @property
    def rate(self) -> float:
        """Cycles a second, of all clients."""
        return sum(len(outcome.cycles) / outcome.seconds for outcome in self.outcomes)


@dataclass(slots=True)
class Load:
    """`clients` processes, each with its own session and channels."""

    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def run(
        self,
        kind: str,
        devices: Sequence[str],
        seconds: float,
        *,
        server: int,
        hold: float = 0.0,
        waits: bool = False,
    ) -> Slot:
        """One client for each of `devices`; `server` is the pid whose CPU time counts."""
        starts = time.monotonic() + LEAD_SECONDS
        used = self.processes[: len(devices)]
        for process, device in zip(used, devices, strict=True):
            tell(process, asdict(Order(kind, device, starts, starts + seconds, hold, waits)))
        busy = busy_between(server, starts, starts + seconds)
        return Slot([Outcome(**json.loads(line(process))) for process in used], busy)


@contextlib.contextmanager
def clients(count: int) -> Iterator[Load]:
    """Started with the environment of this process; ended by end of file."""
    load = Load()
    try:
        for number in range(count):
            load.processes.append(python("benchmarks.client", str(number)))
        for process in load.processes:
            if line(process) != "ready\n":
                raise RuntimeError("a client of the benchmark cannot start")
        yield load
    finally:
        for process in load.processes:
            stop(process)


def tell(process: "subprocess.Popen[str]", order: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """A process that takes orders, on the clients' cores."""
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    pin(process.pid, CLIENTS)
    return process


def python(module: str, *arguments: str) -> "subprocess.Popen[str]":
    return start([sys.executable, "-m", module, *arguments])


def stop(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    process.wait()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def busy_between(server: int, starts: float, ends: float) -> float:
    """CPU seconds a second of a process between two times of CLOCK_MONOTONIC; returns at the later."""
    time.sleep(max(0.0, starts - time.monotonic()))
    before = cpu_seconds(server)
    time.sleep(max(0.0, ends - time.monotonic()))
    return (cpu_seconds(server) - before) / (ends - starts)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads. Source: proc(5), fields 14 and 15 of stat."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS
