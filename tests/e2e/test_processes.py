"""Runners and queues in programs that fork, spawn, use several event loops, and end with things open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import digits
from support.daemon import Daemon
from support.user_programs import run_program


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """With two cards, for all programs, one after another."""
    made = Daemon(2)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return path


COMMON = """
import asyncio, gc, os, sys, threading
import numpy
import furiosa.runtime
from furiosa.runtime import FuriosaRuntimeError, sync

ENF = sys.argv[1]
INPUT = numpy.zeros((1, 1, 28, 28), numpy.float32)
ONE = {"device": "warboy(1)*1"}

def forked(child):
    \"\"\"Runs it in a forked child, and waits until that has ended well.\"\"\"
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def refused(call, text="a forked child creates its own"):
    try:
        call()
    except FuriosaRuntimeError as error:
        assert text in str(error), error
    else:
        raise AssertionError("it was not refused")
"""

FORKS = """
runner = sync.create_runner(ENF, **ONE)
submitter, receiver = sync.create_queue(ENF, **ONE)
runtime = sync.Runtime(**ONE)
runtime.__enter__()

def child():
    global runner, submitter, receiver, runtime
    refused(lambda: runner.run(INPUT))
    refused(runner.allocate)
    refused(lambda: submitter.submit(INPUT))
    refused(receiver.recv)
    refused(lambda: runtime.create_runner(ENF))
    assert runner.close() and submitter.close() and receiver.close() and runtime.close()
    del runner, submitter, receiver, runtime
    gc.collect()
    with sync.create_runner(ENF, **ONE) as own:
        own.run(INPUT)

for _ in range(3):
    forked(child)
    runner.run(INPUT)
    submitter.submit(INPUT, 1)
    assert receiver.recv()[0] == 1
with runtime.create_runner(ENF) as other:
    other.run(INPUT)
runner.close(), receiver.close(), runtime.close()
"""

FORKS_WHILE_THREADS_RUN = """
runner = sync.create_runner(ENF, **ONE)
ends = sync.create_queue(ENF, **ONE)
over = False

def run():
    while not over:
        runner.run(INPUT)

def feed():
    with ends.submitter:
        while not over:
            ends.submitter.submit(INPUT)

def receive():
    for _ in ends.receiver:
        pass

def child():
    refused(lambda: runner.run(INPUT))
    refused(lambda: ends.submitter.submit(INPUT))
    refused(ends.receiver.recv)
    refused(runner.allocate)
    runner.close(), ends.submitter.close(), ends.receiver.close()

threads = [threading.Thread(target=target) for target in (run, run, feed, receive)]
for thread in threads:
    thread.start()
for _ in range(10):
    forked(child)
over = True
for thread in threads:
    thread.join()
runner.close(), ends.receiver.close()
"""

FORKS_IN_AN_EVENT_LOOP = """
async def main():
    async with furiosa.runtime.create_runner(ENF, **ONE) as runner:
        await runner.run(INPUT)

        def child():
            for coroutine in (runner.run(INPUT), runner.run_with(["logits"], {"image": INPUT})):
                refused(lambda: coroutine.send(None))

        forked(child)
        await runner.run(INPUT)

asyncio.run(main())
"""

POOLS = """
import multiprocessing

def create():
    global runner
    runner = sync.create_runner(ENF, **ONE)

def answer(value):
    (logits,) = runner.run(INPUT + value)
    return os.getpid(), logits.tolist()

if __name__ == "__main__":
    create()
    expected = [answer(value / 4)[1] for value in range(4)]
    for method in ("fork", "forkserver", "spawn"):
        with multiprocessing.get_context(method).Pool(2, create) as pool:
            answers = pool.map(answer, [value / 4 for value in range(4)] * 8, chunksize=1)
            pool.close()
            pool.join()
        assert [logits for _, logits in answers] == expected * 8, method
        assert os.getpid() not in {pid for pid, _ in answers}
    runner.close()
"""

ONE_LOOP_AFTER_ANOTHER = """
async def main():
    async with furiosa.runtime.create_runner(ENF, **ONE) as runner:
        await asyncio.gather(*(runner.run(INPUT) for _ in range(5)))
    submitter, receiver = await furiosa.runtime.create_queue(ENF, **ONE)
    await submitter.submit(INPUT, 1)
    assert (await receiver.recv())[0] == 1
    await receiver.close()

import io, trio
from furiosa.runtime.bench import BenchConfig, BenchRunner
from furiosa.runtime.profiler import profile

for _ in range(2):
    asyncio.run(main())

async def as_above():
    trace = io.StringIO()
    async with furiosa.runtime.create_runner(ENF, **ONE) as runner:
        with profile(file=trace):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(runner.run, INPUT)
    assert trace.getvalue().count('"Inference"') == 5
    config = BenchConfig(ENF, devices="warboy(1)*1", queries=5, workers=2)
    assert (await BenchRunner(config, "T").run()).queries >= 5
    async with furiosa.runtime.create_queue(ENF, **ONE) as (submitter, receiver):
        await submitter.submit(INPUT, 1)
        assert (await receiver.recv())[0] == 1

for _ in range(2):
    trio.run(as_above)
"""

IN_ANOTHER_LOOP = """
async def create():
    return (
        await furiosa.runtime.create_runner(ENF, **ONE),
        await furiosa.runtime.create_queue(ENF, **ONE),
    )

async def use(runner, ends):
    calls = runner.run(INPUT), ends.submitter.submit(INPUT), ends.receiver.recv()
    for call in calls:
        try:
            await call
        except FuriosaRuntimeError as error:
            assert "another event loop" in str(error) or "given up" in str(error), error
        else:
            raise AssertionError("it was not refused")

async def main():
    made = await create()
    await made[0].run(INPUT)
    thread = threading.Thread(target=lambda: asyncio.run(use(*made)))
    thread.start()
    while thread.is_alive():
        await made[0].run(INPUT)
    await made[0].close()
    await made[1].receiver.close()

asyncio.run(main())
made = asyncio.run(create())
asyncio.run(use(*made))

async def close(runner, ends):
    assert await runner.close() and await ends.receiver.close()

asyncio.run(close(*made))
"""


@pytest.mark.parametrize(
    "program",
    [
        FORKS,
        FORKS_WHILE_THREADS_RUN,
        FORKS_IN_AN_EVENT_LOOP,
        POOLS,
        ONE_LOOP_AFTER_ANOTHER,
        IN_ANOTHER_LOOP,
    ],
    ids=["forks", "forks-threads", "forks-loop", "pools", "loops", "another-loop"],
)
def test_programs_of_several_processes_or_loops_work_or_are_told(
    daemon: Daemon, enf: Path, tmp_path: Path, program: str
) -> None:
    done = run_program(tmp_path, COMMON + program, daemon.environ, str(enf))
    assert (done.returncode, done.stderr) == (0, "")


OPEN = """
async def leave_open():
    made = await furiosa.runtime.create_runner(ENF, **ONE)
    await made.run(INPUT)
    ends = await furiosa.runtime.create_queue(ENF, **ONE)
    await ends.submitter.submit(INPUT)
    runtime = furiosa.runtime.Runtime(**ONE)
    await runtime.__aenter__()
    return made, ends, runtime
"""

BLOCKING_IS_OPEN = """
runner = sync.create_runner(ENF, **ONE)
runtime = sync.Runtime(**ONE)
inner = runtime.create_runner(ENF)
submitter, receiver = sync.create_queue(ENF, **ONE)
submitter.submit(INPUT)
receiver.recv()
busy = threading.Semaphore(0)

def run():
    while True:
        runner.run(INPUT)
        busy.release()

def receive():
    busy.release()
    receiver.recv()

for target in (run, run, receive):
    threading.Thread(target=target, daemon=True).start()
for _ in range(5):
    busy.acquire()
"""

DROPPED = """
def leave():
    runner = sync.create_runner(ENF, **ONE)
    runner.run(INPUT)
    ends = sync.create_queue(ENF, **ONE)
    ends.submitter.submit(INPUT)
    runtime = sync.Runtime(**ONE)
    runtime.create_runner(ENF)

leave()
gc.collect()
asyncio.run(leave_open())
gc.collect()
"""


@pytest.mark.parametrize(
    "program",
    [
        BLOCKING_IS_OPEN,
        "kept = asyncio.run(leave_open())",
        "import trio\ntrio.run(leave_open)\ngc.collect()\nkept = trio.run(leave_open)",
        DROPPED,
    ],
    ids=["blocking", "asyncio", "trio", "dropped"],
)
def test_programs_that_leave_things_open_end_quietly(
    daemon: Daemon, enf: Path, tmp_path: Path, program: str
) -> None:
    done = run_program(tmp_path, COMMON + OPEN + program, daemon.environ, str(enf))
    assert (done.returncode, done.stderr) == (0, "")
