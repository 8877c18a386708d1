"""The SDK beside other engines in process: LiteRT with real models, OpenVINO with the same networks."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, in_turn
from benchmarks.inference import peers, setting, turns
from benchmarks.inference.setting import PE, PE_CPU, Array
from furiosa.compiler import CompilerOptions, compile
from furiosa.runtime.sync import create_runner

MODELS = "FURIOSA_TEST_MODELS"
PER_TENSOR = "mobilenet_v2_1.0_224_quant"  # the one with a target: at least as fast
LITERT = "LiteRT in process, XNNPACK, one thread"
OPENVINO = "OpenVINO in process, same model, latency hint, one thread"


def figures(effort: Effort) -> Iterator[Found]:
    with setting.serving():
        yield from _litert(effort)
        for name in setting.NETWORKS:
            model = setting.network(name)
            yield _beside(
                f"inference.engines.openvino.{name}",
                setting.program(name),
                lambda images, model=model: peers.openvino_run(model, images[0]),  # type: ignore[misc]
                OPENVINO,
                None,
                effort,
            )


def _litert(effort: Effort) -> Iterator[Found]:
    folder = os.environ.get(MODELS)
    if not folder:
        yield Skipped("inference.engines.litert", f"{MODELS} names no folder of models")
        return
    for path in sorted(Path(folder).glob("*.tflite")):
        if "float" in path.stem:
            continue
        yield _beside(
            f"inference.engines.litert.{path.stem}",
            compile(path.read_bytes(), CompilerOptions(target="warboy")),
            lambda images, path=path: peers.litert_run(path, images),  # type: ignore[misc]
            LITERT,
            1.0 if path.stem == PER_TENSOR else None,
            effort,
        )


def _beside(
    name: str,
    program: bytes,
    peer: Callable[[list[Array]], peers.Run],
    against: str,
    target: float | None,
    effort: Effort,
) -> Found:
    images = setting.inputs(program)
    with create_runner(program, device=PE) as runner, setting.on(PE_CPU):
        try:
            theirs = peer(images)
        except ImportError as error:
            return Skipped(name, f"{error}")
        sides = [
            turns.blocking(lambda: runner.run(images), PE_CPU),
            turns.blocking(theirs, PE_CPU),
        ]
        taken = turns.take(sides, effort)
    return in_turn(
        name,
        *taken.sides,
        unit="us",
        against=against,
        target=target,
        conditions=f"client and PE on one CPU; {taken.conditions}",
    )
