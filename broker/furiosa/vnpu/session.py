"""onnxruntime sessions with the options under which its results are ours, bit for bit.

Importing this module creates no session and no thread, so a process may import it and then fork.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

# else the import starts a thread that reports to onnxruntime's makers, and no process should fork then
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime


class ExecutionFailed(RuntimeError):
    """onnxruntime gave up in the middle of a run; the program stays usable."""


def create(model: bytes, threads: int) -> Any:
    """A session on `threads` cores; set the CPU affinity of the process first.

    Raises: whatever onnxruntime raises for a model it does not take.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # failures arrive as exceptions
    # keep Dequantize-Add-Quantize as it is: the fused form rounds differently on some CPUs
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # threads spin during a run, where it makes two cores worth having, and never after it
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["DoubleQDQPairsRemover"],  # forgets the middle one of three roundings
    )
    # kept to start over with another provider, which there is none of: as large as all its weights
    session._model_bytes = None
    return session


@cache
def has_exact_u8s8() -> bool:
    """False where this CPU's products of uint8 and int8 saturate in pairs."""
    return _is_exact(os.uname().machine, Path("/proc/cpuinfo").read_text())


def _is_exact(machine: str, cpuinfo: str) -> bool:
    """On x86 only the VNNI instructions are exact; other machines have no such trap."""
    return machine != "x86_64" or not {"avx512_vnni", "avx_vnni"}.isdisjoint(cpuinfo.split())
