"""From nothing to a worker, from an ENF to a loaded program, from an ENF to the first answer."""

import asyncio
import time
from collections.abc import Iterator

from benchmarks.efforts import Effort
from benchmarks.figures import Figure, Found, beside, within
from benchmarks.inference import peers, setting
from benchmarks.inference.setting import PE, PE_CPU, PES_CPUS
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.broker.workers.spawner import Spawner
from furiosa.broker.workers.worker import Worker
from furiosa.client.sync import Connection
from furiosa.common.errors import LeaseEnded
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.runtime.sync import create_runner

READY_MS = 30.0
LOADED_MS = 60.0
NETWORK = "mobilenet_v2"


def figures(effort: Effort) -> Iterator[Found]:
    rounds = max(effort.rounds // 20, 20)
    with setting.on(PES_CPUS):
        samples = asyncio.run(_cold_starts(rounds))
    yield within(
        "inference.cold_start",
        samples,
        READY_MS,
        unit="ms",
        against="the bound on the p99",
        conditions="from the order to the zygote until the broker's end has READY, workers confined as "
        "by default, no control group",
    )
    with setting.serving():
        yield _loaded(rounds)
        yield _first_answer(max(rounds // 4, 10))


async def _cold_starts(rounds: int) -> list[float]:
    """In ms, with the broker's own classes in this process."""
    settings = WorkerSettings()
    spawner = Spawner(settings)
    await spawner.start()
    file, cpus = DeviceFile.parse("npu0pe0"), sorted(PE_CPU)
    samples = []
    try:
        for _ in range(rounds):
            ended = asyncio.Event()
            start = time.perf_counter()
            worker = Worker(
                spawner,
                settings,
                file,
                cpus,
                lambda _, ended=ended: ended.set(),  # type: ignore[misc]
                lambda *_: None,
            )
            await worker.ready
            samples.append((time.perf_counter() - start) * 1e3)
            worker.end(LeaseEnded("none", "it was measured"))
            await ended.wait()
    finally:
        await spawner.stop()
    return samples


def _loaded(rounds: int) -> Figure:
    program = setting.program(NETWORK)
    samples = []
    with Connection.open(client="benchmark") as connection:
        lease = connection.acquire(DeviceSpec.parse(PE))
        connection.load_program(lease.id, setting.program("mnistnet"))  # the worker is there
        for _ in range(rounds):
            start = time.perf_counter()
            loaded = connection.load_program(lease.id, program)
            samples.append((time.perf_counter() - start) * 1e3)
            connection.unload_program(lease.id, loaded.id)
        connection.release(lease.id)
    return beside(
        f"inference.load.{NETWORK}",
        samples,
        [LOADED_MS],
        unit="ms",
        against="the bound",
        target=1.0,
        conditions=f"{len(program):,} bytes of ENF, onto a worker that has another program",
    )


def _first_answer(rounds: int) -> Figure:
    program = setting.program(NETWORK)
    (image,) = setting.inputs(program)
    ours, theirs = [], []
    with setting.on(PE_CPU):
        for _ in range(rounds):
            start = time.perf_counter()
            with create_runner(program, device=PE) as runner:
                runner.run([image])
                ours.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            peers.onnxruntime_run(peers.onnxruntime_session(setting.network(NETWORK)), image)()
            theirs.append((time.perf_counter() - start) * 1e3)
    return beside(
        f"inference.first_answer.{NETWORK}",
        ours,
        theirs,
        unit="ms",
        against="onnxruntime in process: session and first run, same model",
        conditions="from the ENF to the first answer, with connecting, leasing and a new worker",
    )
