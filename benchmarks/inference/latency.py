"""One run at a time on one PE, beside onnxruntime in process with the same model."""

import asyncio
import statistics
from collections.abc import Iterator

from benchmarks.efforts import Effort
from benchmarks.figures import Found, in_turn
from benchmarks.inference import peers, setting, turns
from benchmarks.inference.setting import OTHER_CPUS, PE, PE_CPU
from furiosa.runtime import Runner as AsyncRunner
from furiosa.runtime import create_runner as create_async_runner
from furiosa.runtime.sync import create_runner

SESSION = "onnxruntime in process, same model, one thread, session.run"
RATIOS = {"resnet50": 1.02, "mobilenet_v2": 1.02, "resnet8": 1.1}  # of 4 ms and more, of about 1 ms
ADDED_US = {"sync": 25.0, "asyncio": 45.0}  # to a model of tens of microseconds
SMALLEST = "mnistnet"


def figures(effort: Effort) -> Iterator[Found]:
    with setting.serving():
        for name in setting.NETWORKS:
            yield from _sync(name, effort)
        yield from _asyncio(SMALLEST, effort)


def _sync(name: str, effort: Effort) -> Iterator[Found]:
    program = setting.program(name)
    (image,) = setting.inputs(program)
    with (
        create_runner(program, device=PE) as runner,
        setting.on(PE_CPU),
    ):
        session = peers.onnxruntime_session(setting.network(name))
        sides = [
            turns.blocking(lambda: runner.run([image]), PE_CPU),
            turns.blocking(peers.onnxruntime_run(session, image), PE_CPU),
            turns.blocking(peers.onnxruntime_bound(session, image), PE_CPU),
            turns.blocking(lambda: runner.run([image]), OTHER_CPUS),
        ]
        taken = turns.take(sides, effort)
    yield from _compared(f"sync.{name}", taken)
    if name == SMALLEST:
        yield _added(f"sync.{name}", taken, ADDED_US["sync"])


def _asyncio(name: str, effort: Effort) -> Iterator[Found]:
    (image,) = setting.inputs(setting.program(name))
    with asyncio.Runner() as started, setting.on(PE_CPU):
        loop = started.get_loop()

        async def opened() -> AsyncRunner:
            return await create_async_runner(setting.program(name), device=PE)

        runner = loop.run_until_complete(opened())
        session = peers.onnxruntime_session(setting.network(name))
        sides = [
            turns.awaited(lambda: runner.run([image]), loop, PE_CPU),
            turns.blocking(peers.onnxruntime_run(session, image), PE_CPU),
            turns.blocking(peers.onnxruntime_bound(session, image), PE_CPU),
            turns.awaited(lambda: runner.run([image]), loop, OTHER_CPUS),
        ]
        taken = turns.take(sides, effort)
        loop.run_until_complete(runner.close())
    yield from _compared(f"asyncio.{name}", taken)
    yield _added(f"asyncio.{name}", taken, ADDED_US["asyncio"])


def _compared(name: str, taken: turns.Turns) -> Iterator[Found]:
    ours, theirs, bound, elsewhere = taken.sides
    also = f"{taken.conditions}; with IOBinding it took {statistics.median(bound):,.1f} us"
    yield in_turn(
        f"inference.{name}",
        ours,
        theirs,
        unit="us",
        against=SESSION,
        target=RATIOS.get(name.partition(".")[2]),
        conditions=f"client and PE on one CPU; {also}",
    )
    yield in_turn(
        f"inference.{name}.other_cpu",
        elsewhere,
        theirs,
        unit="us",
        against=SESSION,
        conditions=f"client on another CPU than the PE; {also}",
    )


def _added(name: str, taken: turns.Turns, bound_us: float) -> Found:
    added = taken.added()
    return in_turn(
        f"inference.{name}.added",
        added,
        [bound_us] * len(added),
        unit="us",
        against="the bound on what a run takes longer than session.run",
        target=1.0,
        conditions=f"client and PE on one CPU; {taken.conditions}",
    )
