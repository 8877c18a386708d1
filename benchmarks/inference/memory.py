"""What a loaded program takes of a worker's memory, beside a process with onnxruntime."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import broker
from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, single
from benchmarks.inference import setting
from benchmarks.inference.setting import PE
from furiosa.runtime.sync import Runtime

NETWORKS = ("mobilenet_v2", "resnet50")
ROUNDS = 5
MEASURED = "private pages, after a first run"
IN_PROCESS = "the same model in a process with onnxruntime, one thread"

# a process of its own, which has run a small model before, as the worker has
PEER = """
import sys
from benchmarks.inference import memory, peers, setting
def ready(path):
    session = peers.onnxruntime_session(path)
    given = session.get_inputs()[0]
    image = setting.np.zeros(given.shape, setting.np.float32)
    peers.onnxruntime_run(session, image)()
    return session, image
small = ready(sys.argv[1])
before = memory.private_mb("self")
big = ready(sys.argv[2])
print(memory.private_mb("self") - before)
"""


def figures(effort: Effort) -> Iterator[Found]:
    with setting.serving() as serving:
        for name in NETWORKS:
            try:
                yield from _of(serving, name)
            except PermissionError:
                yield Skipped(
                    f"inference.memory.{name}", "a worker's memory map is for root to see"
                )


def _of(serving: broker.Broker, name: str) -> Iterator[Found]:
    grown, left, theirs = [], [], []
    program, small = setting.program(name), setting.program("mnistnet")
    (image,), (little,) = setting.inputs(program), setting.inputs(small)
    for _ in range(ROUNDS):
        with Runtime(PE) as runtime:
            runner = runtime.create_runner(small)
            runner.run([little])
            worker = str(_worker(serving.pid))
            before = private_mb(worker)
            with runtime.create_runner(program) as loaded:
                loaded.run([image])
                grown.append(private_mb(worker) - before)
            left.append(private_mb(worker) - before)
        theirs.append(_peer(name))
    ours, peer = statistics.median(grown), statistics.median(theirs)
    yield single(
        f"inference.memory.{name}",
        ours,
        peer,
        unit="MB",
        against=IN_PROCESS,
        target=1.15,
        conditions=f"growth of {MEASURED}; medians of {ROUNDS}",
    )
    yield single(
        f"inference.memory.{name}.unloaded",
        statistics.median(left),
        ours,
        unit="MB",
        against="what it took while it was loaded",
        conditions=f"growth of private pages that is left after unloading; medians of {ROUNDS}",
    )


def private_mb(pid: str) -> float:
    """Pages that no other process has, in MB. Raises: PermissionError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def _peer(name: str) -> float:
    with tempfile.TemporaryDirectory(prefix="furiosa-bench-") as folder:
        paths = []
        for item in ("mnistnet", name):
            paths.append(Path(folder, item))
            paths[-1].write_bytes(setting.network(item))
        command = [sys.executable, "-c", PEER, *map(str, paths)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return float(done.stdout)


def _worker(broker_pid: int) -> int:
    """The only grandchild: the zygote is the broker's child, and has forked one."""
    (worker,) = [pid for child in _children(broker_pid) for pid in _children(child)]
    return worker


def _children(pid: int) -> list[int]:
    tasks = [
        Path(f"/proc/{pid}/task", task, "children") for task in os.listdir(f"/proc/{pid}/task")
    ]
    return [int(child) for task in tasks for child in task.read_text().split()]
