"""Compiling: beside the time and memory onnxruntime takes to prepare the same model for running."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime

from benchmarks import networks
from benchmarks.efforts import Effort
from benchmarks.figures import Figure, Found, compare, single, within
from furiosa.compiler import CompilerOptions, compile
from furiosa.tools.compiler.cache import compile_cached, open_results

TIMES = 5.0  # what a compile may take, in sessions
CACHED_MS = 50.0
SESSION = "onnxruntime building its session from the same model, all optimisations, one thread"
NETWORKS: tuple[tuple[str, Callable[[], bytes]], ...] = (
    ("mobilenet_v2", networks.mobilenet_v2),
    ("resnet50", networks.resnet50),
)
OPTIONS = CompilerOptions()

# a process of its own for each, because memory is counted at its peak
PEAK = """
import sys
import onnx, onnxruntime
from furiosa.compiler import CompilerOptions, compile
import furiosa.compiler.frontend.onnx
def memory(field):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))
model = open(sys.argv[1], "rb").read()
before = memory("VmRSS:")
open("/proc/self/clear_refs", "w").write("5")  # begins the peak anew
if sys.argv[2] == "compile":
    compile(model, CompilerOptions())
else:
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
print(memory("VmHWM:") - before)
"""


def figures(effort: Effort) -> Iterator[Found]:
    rounds = max(effort.rounds // 100, 5)
    for name, network in NETWORKS:
        model = network()
        yield compare(
            f"compiler.time.{name}",
            lambda model=model: compile(model, OPTIONS),  # type: ignore[misc]
            lambda model=model: _session(model),  # type: ignore[misc]
            against=SESSION,
            rounds=rounds,
            target=TIMES,
        )
        yield _cached(name, model, rounds)
        yield _memory(name, model)


def _session(model: bytes) -> object:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _cached(name: str, model: bytes, rounds: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        results = open_results({"FC_CACHE_STORE_URL": folder})
        compile_cached(model, OPTIONS, results=results)
        samples = []
        for _ in range(rounds):
            start = time.perf_counter()
            compile_cached(model, OPTIONS, results=results)
            samples.append((time.perf_counter() - start) * 1e3)
    return within(
        f"compiler.cached.{name}", samples, CACHED_MS, unit="ms", against="the bound on the p99"
    )


def _memory(name: str, model: bytes) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        ours, theirs = (_peak(path, what) for what in ("compile", "session"))
    return single(
        f"compiler.memory.{name}",
        ours,
        theirs,
        unit="MB",
        against="onnxruntime building its session",
        conditions="growth of the peak resident memory over that of the imports and the model",
    )


def _peak(path: Path, what: str) -> float:
    """In MB."""
    command = [sys.executable, "-c", PEAK, str(path), what]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return int(done.stdout) / 1024
