"""What it costs to bring 600 kB of floats to the device."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.efforts import Effort
from benchmarks.figures import Found, in_turn
from benchmarks.inference import peers, setting, turns
from benchmarks.inference.setting import PE, PE_CPU
from furiosa.runtime.sync import create_runner

NETWORK = "mobilenet_v2"
BEYOND_US = 40.0  # what a run may cost besides one copy of its input


def figures(effort: Effort) -> Iterator[Found]:
    program = setting.program(NETWORK)
    (image,) = setting.inputs(program)
    copy = np.empty_like(image)
    with setting.serving(), create_runner(program, device=PE) as runner, setting.on(PE_CPU):
        session = peers.onnxruntime_session(setting.network(NETWORK))
        shared = runner.allocate()
        shared[0][...] = image
        sides = [
            turns.blocking(lambda: runner.run([image]), PE_CPU),
            turns.blocking(peers.onnxruntime_run(session, image), PE_CPU),
            turns.blocking(partial(runner.run, shared), PE_CPU),
            turns.blocking(lambda: np.copyto(copy, image), PE_CPU),
        ]
        taken = turns.take(sides, effort)
    bound = [us + BEYOND_US for us in taken.sides[3]]
    for name, side, target in (("float_600kB", 0, 1.0), ("float_600kB.allocated", 2, None)):
        yield in_turn(
            f"inference.input.{name}",
            taken.added(side),
            bound,
            unit="us",
            against=f"one memcpy of {image.nbytes:,} bytes and {BEYOND_US:g} us",
            target=target,
            conditions="what a run takes longer than session.run in process; client and PE on one "
            f"CPU; {taken.conditions}",
        )
