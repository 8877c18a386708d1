"""What it costs to record inferences down to their operators."""

import io
import time
from collections.abc import Iterator
from contextlib import nullcontext

from benchmarks.efforts import Effort
from benchmarks.figures import Found, in_turn
from benchmarks.inference import setting
from benchmarks.inference.setting import OTHER_CPUS, PE
from furiosa.runtime._core.recording import Sampling
from furiosa.runtime.profiler import profile
from furiosa.runtime.sync import Runner, create_runner

NETWORK = "mobilenet_v2"
ROUND = 2 * Sampling.EVERY  # inferences: as many of them measured in steps as in a long recording


def figures(effort: Effort) -> Iterator[Found]:
    program = setting.program(NETWORK)
    (image,) = setting.inputs(program)
    with setting.serving(), create_runner(program, device=PE) as runner, setting.on(OTHER_CPUS):
        with profile(file=io.StringIO()):
            for _ in range(Sampling.WHOLE):
                runner.run([image])
        recorded, plain = [], []
        for _ in range(max(5, effort.rounds // 40)):
            plain.append(_round(runner, image, recording=False))
            recorded.append(_round(runner, image, recording=True))
    yield in_turn(
        f"inference.profiling.{NETWORK}",
        recorded,
        plain,
        unit="us",
        against="the same while nobody records",
        target=1.03,
        conditions=f"means of {ROUND} inferences after the first {Sampling.WHOLE}, "
        f"of which one in {Sampling.EVERY} is measured operator by operator",
    )


def _round(runner: Runner, image: setting.Array, *, recording: bool) -> float:
    """us an inference."""
    with profile(file=io.StringIO()) if recording else nullcontext():
        start = time.perf_counter_ns()
        for _ in range(ROUND):
            runner.run([image])
        took = time.perf_counter_ns() - start
    return took / ROUND / 1e3
