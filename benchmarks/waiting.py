"""1,000 clients that wait for one core: what each costs the broker, and what one release sets off.

The core is handed on from one to the next all the time. If a release wakes only the next one, then
what it costs does not depend on how many others wait.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import broker
from benchmarks.broker import Broker
from benchmarks.cores import SERVER, pin
from benchmarks.efforts import Effort
from benchmarks.figures import Found, in_turn, single
from benchmarks.load import cpu_seconds, line, python, stop, tell
from benchmarks.waiter import DEVICE
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec

FEW, MANY = 12, 1000
PROCESSES = 4
TARGET = 1.5
MEANING = {
    "cpu_us": "CPU time of the broker",
    "switches": "voluntary context switches of the broker",
    "frames": "frames received by all waiters together: the grant, its end, the answer to the release",
}


@dataclass(frozen=True, slots=True)
class Chain:
    """What a time of handing on cost, for each release; and the broker's kB before it."""

    cpu_us: float
    switches: float
    frames: float
    kb_alone: float
    kb_connected: float
    kb_waiting: float


def figures(effort: Effort) -> Iterator[Found]:
    chains: dict[int, list[Chain]] = {FEW: [], MANY: []}
    with broker.running(1) as server:
        pin(server.pid, SERVER)
        for _ in range(max(2, effort.slots // 3)):
            for count, found in chains.items():
                found.append(_chain(server, count, 2 * effort.slot_seconds))
    first = chains[MANY][0]
    yield single(
        "acquire.waiting.memory",
        (first.kb_waiting - first.kb_connected) / MANY,
        (first.kb_connected - first.kb_alone) / MANY,
        unit="kB",
        against="a connection that does not wait",
        conditions=f"growth of the broker's anonymous memory, {MANY} clients in {PROCESSES} processes",
    )
    for name, unit in (("cpu_us", "us"), ("switches", "1"), ("frames", "1")):
        yield in_turn(
            f"acquire.waiting.{name.removesuffix('_us')}",
            [getattr(chain, name) for chain in chains[MANY]],
            [getattr(chain, name) for chain in chains[FEW]],
            unit=unit,
            against=f"the same with {FEW} waiting",
            target=TARGET,
            conditions=f"for each release, {MANY} waiting: {MEANING[name]}",
        )


def _chain(server: Broker, count: int, seconds: float) -> Chain:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(Connection.open(client="benchmark"))
        lease = connection.acquire(DeviceSpec.parse(DEVICE))
        alone = _anonymous_kb(server.pid)
        crowds = [_crowd(stack, count // PROCESSES) for _ in range(PROCESSES)]
        connected = _anonymous_kb(server.pid)
        for crowd in crowds:
            tell(crowd, "wait")
        for crowd in crowds:
            _must_say(crowd, "waiting")
        waiting = _anonymous_kb(server.pid)
        cpu, switches = cpu_seconds(server.pid), _voluntary_switches(server.pid)
        connection.release(lease.id)
        time.sleep(seconds)
        for crowd in crowds:
            tell(crowd, "stop")
        cpu = cpu_seconds(server.pid) - cpu
        switches = _voluntary_switches(server.pid) - switches
        results = [json.loads(line(crowd)) for crowd in crowds]
        grants = sum(result["grants"] for result in results)
        frames = sum(result["frames"] for result in results)
    return Chain(cpu * 1e6 / grants, switches / grants, frames / grants, alone, connected, waiting)


def _crowd(stack: contextlib.ExitStack, count: int) -> subprocess.Popen[str]:
    process = python("benchmarks.waiter", str(count))
    stack.callback(stop, process)
    _must_say(process, "connected")
    return process


def _must_say(process: subprocess.Popen[str], word: str) -> None:
    if line(process) != f"{word}\n":
        raise RuntimeError(f"a client of the benchmark is not {word}")


def _anonymous_kb(pid: int) -> float:
    """Source: proc(5), RssAnon of status."""
    return _status(Path(f"/proc/{pid}/status"), "RssAnon:")


def _voluntary_switches(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_status(task / "status", "voluntary_ctxt_switches:") for task in tasks)


def _status(path: Path, name: str) -> float:
    for text in path.read_text().splitlines():
        if text.startswith(name):
            return float(text.split()[1])
    raise RuntimeError(f"{path} has no {name}")
