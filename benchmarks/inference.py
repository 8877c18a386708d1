"""One inference through the SDK on one PE, against onnxruntime in process with the same int8 model."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks import broker
from benchmarks.efforts import Effort
from benchmarks.figures import Figure, compare
from furiosa.compiler import CompilerOptions, compile
from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from furiosa.runtime.sync import create_runner

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
AGAINST = "onnxruntime in process, same quantised model, one thread, same core"


def digits_int8() -> bytes:
    data = np.load(EXAMPLES / "data" / "digits.npz")
    images = (data["calibration_images"].astype(np.float32) / 255).reshape(-1, 1, 1, 1, 28, 28)
    model = optimize_model(onnx.load(EXAMPLES / "data" / "digits_cnn.onnx"))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data(images)
    return quantize(model, calibrator.compute_range())


def figures(effort: Effort) -> Iterator[Figure]:
    with broker.running(1):
        yield from _figures(effort.rounds)


def _figures(rounds: int) -> Iterator[Figure]:
    model = digits_int8()
    core = min(os.sched_getaffinity(0))  # the core that PE 0 of card 0 runs on
    before = os.sched_getaffinity(0)
    with create_runner(
        compile(model, CompilerOptions(target="warboy")), device="npu:0:0"
    ) as runner:
        os.sched_setaffinity(0, {core})
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            image = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
            yield compare(
                "inference.digits_cnn",
                lambda: runner.run([image]),
                lambda: session.run(None, {"image": image}),
                against=AGAINST,
                rounds=rounds,
            )
        finally:
            os.sched_setaffinity(0, before)
