"""What the SDK costs: to import, to begin with, and in each call, beside a bare queue pair."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.efforts import Effort
from benchmarks.figures import Found, beside, in_turn
from benchmarks.inference import floor, setting, turns
from benchmarks.inference.setting import PE, PE_CPU
from furiosa import runtime
from furiosa.runtime import sync

IMPORT_MS = 150.0
FIRST_RESULT_MS = 150.0
SMALLEST = "mnistnet"  # the calls weigh most there
FLOOR = "the engine behind a bare queue pair, without a broker or any check"


def figures(effort: Effort) -> Iterator[Found]:
    rounds = max(effort.rounds // 50, 10)
    for module in ("furiosa.runtime", "furiosa.runtime.sync"):
        yield _imported(module, rounds)
    with setting.serving():
        for name in (SMALLEST, "mobilenet_v2"):
            yield _first_result(name, rounds)
        for name in setting.NETWORKS:
            yield _sync_call(name, effort)
        yield from _other_calls(effort)


def _imported(module: str, rounds: int) -> Found:
    ours, numpy = [], []
    for _ in range(rounds):
        ours.append(_import_ms(f"from {module} import create_runner"))
        numpy.append(_import_ms("import numpy"))
    return beside(
        f"sdk.import.{module}",
        ours,
        [IMPORT_MS],
        unit="ms",
        against="the bound",
        target=1.0,
        conditions=f"-X importtime, {rounds} processes; of it {sorted(numpy)[rounds // 2]:.0f} ms are numpy",
    )


def _import_ms(statement: str) -> float:
    """What the interpreter says the imports took, without those of its own start."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    rows = [line.removeprefix("import time:").split("|") for line in said.splitlines()]
    names = [name for _, _, name in rows]
    return sum(int(alone) for alone, _, _ in rows[names.index(" site") + 1 :]) / 1e3


def _first_result(name: str, rounds: int) -> Found:
    program = setting.program(name)
    (image,) = setting.inputs(program)
    samples = []
    with setting.on(PE_CPU):
        for _ in range(rounds):
            start = time.perf_counter()
            with sync.create_runner(program, device=PE) as runner:
                runner.run([image])
                samples.append((time.perf_counter() - start) * 1e3)
    return beside(
        f"sdk.first_result.{name}",
        samples,
        [FIRST_RESULT_MS],
        unit="ms",
        against="the bound",
        target=1.0,
        conditions="create_runner(enf) and one run: connecting, a lease, a new worker, loading",
    )


def _sync_call(name: str, effort: Effort) -> Found:
    program = setting.program(name)
    (image,) = setting.inputs(program)
    with (
        sync.create_runner(program, device=PE) as runner,
        floor.serving(program, image, PE_CPU) as bare,
        setting.on(PE_CPU),
    ):
        sides = [
            turns.blocking(lambda: runner.run([image]), PE_CPU),
            turns.blocking(bare, PE_CPU),
        ]
        return _beside_the_floor(f"sync.{name}", turns.take(sides, effort))


def _other_calls(effort: Effort) -> Iterator[Found]:
    program = setting.program(SMALLEST)
    (image,) = setting.inputs(program)
    with floor.serving(program, image, PE_CPU) as bare, setting.on(PE_CPU):
        with sync.create_queue(program, device=PE) as (submitter, receiver):

            def through() -> object:
                submitter.submit([image])
                return receiver.recv()

            sides = [turns.blocking(through, PE_CPU), turns.blocking(bare, PE_CPU)]
            yield _beside_the_floor(f"sync_queue.{SMALLEST}", turns.take(sides, effort))
        with asyncio.Runner() as started:
            loop = started.get_loop()
            runner = loop.run_until_complete(_opened(program))
            sides = [
                turns.awaited(lambda: runner.run([image]), loop, PE_CPU),
                turns.blocking(bare, PE_CPU),
            ]
            yield _beside_the_floor(f"asyncio.{SMALLEST}", turns.take(sides, effort))
            loop.run_until_complete(runner.close())


async def _opened(program: bytes) -> runtime.Runner:
    return await runtime.create_runner(program, device=PE)


def _beside_the_floor(name: str, taken: turns.Turns) -> Found:
    return in_turn(
        f"sdk.call.{name}",
        taken.sides[0],
        taken.sides[1],
        unit="us",
        against=FLOOR,
        conditions=f"client and PE on one CPU; {taken.conditions}",
    )
