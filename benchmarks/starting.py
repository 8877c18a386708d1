"""From nothing to a loaded program: a worker's start, loading into it, and the memory that takes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import broker, networks
from benchmarks.efforts import Effort
from benchmarks.figures import Figure, beside
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import NpuSection, read
from furiosa.queuepair import ClientQueue, Geometry, Submission
from furiosa.queuepair.arena import tensor_offsets
from furiosa.vnpu import npugraph, session

READY_MS = 30.0
MEMORY_TIMES = 1.15
RUNS = 3  # before memory is looked at: the first two make onnxruntime take more
SMALL = Geometry(2, 4096)
# with the milliseconds that loading may take
NETWORKS: tuple[tuple[str, Callable[[], bytes], float], ...] = (
    ("mobilenet_v2", networks.mobilenet_v2, 60.0),
    ("resnet50", networks.resnet50, 200.0),
)

IN_PROCESS = """
import os, sys
import numpy, onnxruntime
def anonymous():
    _, resident, shared, *_ = map(int, open("/proc/self/statm").read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
before = anonymous()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
[x] = session.get_inputs()
image = numpy.zeros(x.shape, numpy.float32)
for _ in range(int(sys.argv[2])):
    session.run(None, {x.name: image})
print(anonymous() - before)
"""


def figures(effort: Effort) -> Iterator[Figure]:
    rounds = max(effort.rounds // 20, 10)
    with broker.running(1) as running, Connection.open(client="benchmark") as connection:
        yield beside(
            "inference.start.worker",
            [_start(connection) for _ in range(rounds)],
            [READY_MS],
            unit="ms",
            against="the bound",
            target=1.0,
            conditions="from asking for a first queue to having it: fork, confinement, READY, queue",
        )
        for name, network, limit in NETWORKS:
            enf = compile(network(), CompilerOptions(target="warboy"))
            found = [_load(connection, running.pid, enf) for _ in range(max(rounds // 4, 5))]
            yield beside(
                f"inference.start.load.{name}",
                [milliseconds for milliseconds, _ in found],
                [limit],
                unit="ms",
                against="the bound",
                target=1.0,
                conditions="from the bytes of the ENF to its description, in a new worker",
            )
            yield beside(
                f"inference.start.memory.{name}",
                [megabytes for _, megabytes in found],
                [_in_process(enf) for _ in range(3)],
                unit="MB",
                against="onnxruntime in process, the same graph from a file, one thread",
                target=MEMORY_TIMES,
                conditions=f"growth of anonymous memory by loading it and {RUNS} runs",
            )


def _start(connection: Connection) -> float:
    """In ms."""
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*1"))
    start = time.perf_counter()
    _, descriptors = connection.open_queue(lease.id, lease.device_files[0], SMALL)
    taken = time.perf_counter() - start
    descriptors.close()
    connection.release(lease.id)
    return taken * 1e3


def _load(connection: Connection, pid: int, enf: bytes) -> tuple[float, float]:
    """Milliseconds, and megabytes of the worker after a few runs over those before."""
    program = read(enf)
    _, inputs = tensor_offsets([spec.nbytes for spec in program.input_specs])
    _, outputs = tensor_offsets([spec.nbytes for spec in program.output_specs])
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*1"))
    _, descriptors = connection.open_queue(
        lease.id, lease.device_files[0], Geometry(2, inputs + outputs)
    )
    queue = ClientQueue.attach(descriptors)
    worker = _worker(pid)
    before = _anonymous(worker)
    start = time.perf_counter()
    loaded = connection.load_program(lease.id, enf)
    taken = time.perf_counter() - start
    for number in range(RUNS):
        queue.submit(Submission(number, loaded.id, 0, inputs))
        connection.wait([queue.completion_fd], lease.id)
        queue.reap()
    memory = _anonymous(worker) - before
    queue.close()
    connection.release(lease.id)
    return taken * 1e3, memory / 1e6


def _worker(pid: int) -> int:
    """The one worker of a broker: a child of its child."""
    (worker,) = (
        int(grandchild) for child in _children(pid) for grandchild in _children(int(child))
    )
    return worker


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _anonymous(pid: int) -> int:
    """Bytes in memory that are no file's and no arena's."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _in_process(enf: bytes) -> float:
    program = read(enf)
    (section,) = program.sections
    assert isinstance(section, NpuSection)
    last = npugraph.last_readers(program)
    wide = not session.has_exact_u8s8()
    graph = npugraph.lower(program, 0, section, last, wide_weights=wide)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(graph.model)
        file.flush()
        command = [sys.executable, "-c", IN_PROCESS, file.name, str(RUNS)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return int(done.stdout) / 1e6
