"""The engines in process that the SDK stands beside, each at its best on one thread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.inference.setting import Array

Run = Callable[[], object]


def onnxruntime_session(model: bytes | str) -> Any:
    """For one thread, with all optimisations; `model` or the path of one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnxruntime_run(session: Any, image: Array) -> Run:
    """What people write."""
    feeds = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feeds)


def onnxruntime_bound(session: Any, image: Array) -> Run:
    """On memory bound once; the results are left where they are."""
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    binding = session.io_binding()
    binding.bind_cpu_input(given.name, image)
    result = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(made.shape, np.float32))
    binding.bind_ortvalue_output(made.name, result)
    return lambda: session.run_with_iobinding(binding)


def litert_run(path: Path, images: list[Array]) -> Run:
    """Raises: ImportError where it is not installed."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given = [detail["index"] for detail in interpreter.get_input_details()]
    made = [detail["index"] for detail in interpreter.get_output_details()]

    def run() -> object:
        for index, image in zip(given, images, strict=True):
            interpreter.set_tensor(index, image)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in made]

    return run


def openvino_run(model: bytes, image: Array) -> Run:
    """Raises: ImportError where it is not installed."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda: request.infer([image])
