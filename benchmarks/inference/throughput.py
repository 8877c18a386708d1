"""Runs per second: many in flight on one PE, two PEs at once, two PEs fused."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, in_turn
from benchmarks.inference import peers, setting, turns
from benchmarks.inference.setting import CLIENT_CPUS, FUSED, OTHER_CPUS, PE, PE_CPU, PES_CPUS
from furiosa.runtime import Runner as AsyncRunner
from furiosa.runtime import create_runner as create_async_runner
from furiosa.runtime.sync import Runner, create_runner

IN_FLIGHT = 8
NETWORK = "mobilenet_v2"
SECOND_PE = "npu:0:1"

Stretch = Callable[[float], float]  # runs for so many seconds, and says how many runs a second


def figures(effort: Effort) -> Iterator[Found]:
    with setting.serving():
        yield from _in_flight(effort)
        yield _two_pes(effort)
        for name in ("mobilenet_v2", "resnet50"):
            yield _fused(name, effort)


def _in_flight(effort: Effort) -> Iterator[Found]:
    program = setting.program(NETWORK)
    (image,) = setting.inputs(program)
    with asyncio.Runner() as started, setting.on(PE_CPU):
        loop = started.get_loop()

        async def opened() -> AsyncRunner:
            return await create_async_runner(program, device=PE, worker_num=IN_FLIGHT)

        async def asked(end: float) -> int:
            count = 0
            while time.perf_counter() < end:
                await runner.run([image])
                count += 1
            return count

        async def all_asked(seconds: float) -> float:
            start = time.perf_counter()
            counts = await asyncio.gather(*(asked(start + seconds) for _ in range(IN_FLIGHT)))
            return sum(counts) / (time.perf_counter() - start)

        runner = loop.run_until_complete(opened())
        run = peers.onnxruntime_run(peers.onnxruntime_session(setting.network(NETWORK)), image)
        sides: dict[str, Stretch] = {
            "ours": lambda seconds: loop.run_until_complete(all_asked(seconds)),
            "theirs": lambda seconds: _alone(run, seconds),
        }
        sides["elsewhere"] = lambda seconds: _on(OTHER_CPUS, sides["ours"], seconds)
        taken = _stretches(sides, effort)
        loop.run_until_complete(runner.close())
    for name, side, target, where in (
        ("8_in_flight", "ours", None, "client and PE on one CPU"),
        ("8_in_flight.other_cpu", "elsewhere", 0.97, "client on another CPU than the PE"),
    ):
        yield in_turn(
            f"inference.throughput.{name}",
            taken[side],
            taken["theirs"],
            unit="runs/s",
            against="onnxruntime in process, same model, one thread, one run after the other",
            target=target,
            bound="at least",
            conditions=f"{NETWORK}, asyncio, {where}",
        )


def _two_pes(effort: Effort) -> Found:
    if len(PES_CPUS) < 2:
        return Skipped("inference.two_pes", "one CPU only")
    program = setting.program(NETWORK)
    (image,) = setting.inputs(program)
    with (
        create_runner(program, device=PE) as first,
        create_runner(program, device=SECOND_PE) as second,
        setting.on(CLIENT_CPUS),
    ):

        def both(seconds: float) -> float:
            found: list[float] = []

            def ask(runner: Runner) -> None:
                found.append(_alone(lambda: runner.run([image]), seconds))

            threads = [threading.Thread(target=ask, args=(item,)) for item in (first, second)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sum(found)

        alone: dict[str, Stretch] = {
            "first": lambda seconds: _alone(lambda: first.run([image]), seconds),
            "second": lambda seconds: _alone(lambda: second.run([image]), seconds),
        }
        taken = _stretches({"both": both, **alone}, effort)
    shared = "that are not the PEs'" if CLIENT_CPUS.isdisjoint(PES_CPUS) else "that are the PEs'"
    return in_turn(
        "inference.two_pes",
        taken["both"],
        [(a + b) / 2 for a, b in zip(taken["first"], taken["second"], strict=True)],
        unit="runs/s",
        against="one PE alone, the mean of the two",
        target=1.9,
        bound="at least",
        conditions=f"{NETWORK}, a runner and a thread for each, on CPUs {shared}",
    )


def _fused(name: str, effort: Effort) -> Found:
    full = f"inference.fused.{name}"
    if len(PES_CPUS) < 2:
        return Skipped(full, "one CPU only")
    single, double = setting.program(name), setting.program(name, "warboy-2pe")
    (image,) = setting.inputs(single)
    with (
        create_runner(double, device=FUSED) as fused,
        create_runner(single, device=PE) as alone,
        setting.on(PE_CPU),
    ):
        sides = [
            turns.blocking(lambda: fused.run([image]), PE_CPU),
            turns.blocking(lambda: alone.run([image]), PE_CPU),
        ]
        taken = turns.take(sides, effort)
    ours, theirs = ([1e6 / us for us in side] for side in taken.sides)
    return in_turn(
        full,
        ours,
        theirs,
        unit="runs/s",
        against="a single PE",
        target=1.5,
        bound="at least",
        conditions=f"one run at a time, the client on the CPU of the first PE; {taken.conditions}",
    )


def _stretches(sides: dict[str, Stretch], effort: Effort) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in sides}
    for stretch in sides.values():
        stretch(effort.slot_seconds / 5)
    for _ in range(effort.slots):
        for name, stretch in sides.items():
            found[name].append(stretch(effort.slot_seconds))
    return found


def _alone(run: Callable[[], object], seconds: float) -> float:
    run()
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        run()
        count += 1
    return count / elapsed


def _on(cpus: frozenset[int], stretch: Stretch, seconds: float) -> float:
    with setting.on(cpus):
        return stretch(seconds)
