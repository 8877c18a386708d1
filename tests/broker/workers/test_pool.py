"""The pool with real processes; engines do as they are told, unless a real program is run."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import numpy as np
import pytest

from furiosa.broker.workers import process
from furiosa.broker.workers.counters import Counters
from furiosa.common.errors import (
    BrokerDraining,
    InternalError,
    InvalidProgram,
    LeaseEnded,
    LimitExceeded,
    UnknownProgram,
    UnsupportedProgram,
    WorkerDied,
)
from furiosa.common.names import DeviceFile
from furiosa.enf import write
from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    CompletionStatus,
    Geometry,
    Submission,
    tensor_offsets,
)
from furiosa.vnpu import Interpreter
from support import engines
from support.programs import a_program, inputs_for
from support.queues import open_descriptors
from support.workers import (
    FUSED,
    PE0,
    PE1,
    SMALL,
    Bench,
    a_pool,
    children,
    fake_engines,
    hanging,
    memfd,
    readable,
    run,
    until,
)

OK = CompletionStatus.OK


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """With engines that do as they are told; nothing may be left of it."""
    descriptors, processes = open_descriptors(), children()
    async with a_pool(**fake_engines(monkeypatch), max_programs=3, max_queues=2) as bench:
        yield bench
    assert open_descriptors() == descriptors
    assert children() == processes


@pytest.mark.parametrize("file", [PE0, FUSED, DeviceFile.parse("npu3")])
async def test_a_real_program_gives_the_reference_result_through_a_queue(file: DeviceFile) -> None:
    target = "warboy" if file is PE0 else "warboy-2pe"
    program = a_program(target=target, host=True)
    enf = write(program)
    [x] = inputs_for(program, np.random.default_rng(1))
    async with a_pool() as bench:
        view = await bench.load("a", enf, file)
        assert (view.id, view.lease_id, view.target, view.enf_bytes) == (1, "a", target, len(enf))
        assert view.inputs == program.input_specs
        assert view.outputs == program.output_specs
        _, total_in = tensor_offsets([spec.nbytes for spec in view.inputs])
        _, total_out = tensor_offsets([spec.nbytes for spec in view.outputs])
        _, descriptors = await bench.pool.open_queue(
            "a", file, Geometry(2, 2 * total_in + total_out)
        )
        queue = ClientQueue.attach(descriptors)
        queue.arena[: x.nbytes] = x.view(np.uint8).reshape(-1)
        completion = await run(queue, Submission(1, view.id, 0, total_in))
        assert completion.status is OK
        [expected] = Interpreter(program).run([x])
        found = queue.arena[total_in : total_in + expected.nbytes].view(np.float32)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        counters = bench.pool.counters(file)
        assert counters == Counters(completion.task_ns, completion.tensor_ns, 1)
        queue.close()


async def test_a_program_for_another_target_or_of_no_sense_is_refused_by_the_real_reader() -> None:
    enf = write(a_program(target="warboy"))
    rng = np.random.default_rng(3)
    async with a_pool() as bench:
        with pytest.raises(UnsupportedProgram) as unsupported:
            await bench.load("a", enf, FUSED)
        assert unsupported.value.what == "target"
        assert (unsupported.value.found, unsupported.value.expected) == ("warboy", "warboy-2pe")
        for size in (0, 1, 63, 64, 200, len(enf) // 2, len(enf) - 1):
            with pytest.raises(InvalidProgram):
                await bench.load("a", enf[:size])
        for _ in range(20):
            forged = bytearray(enf)
            forged[rng.integers(0, len(enf))] ^= rng.integers(1, 256)
            with pytest.raises((InvalidProgram, UnsupportedProgram)):
                await bench.load("a", bytes(forged))
        for size in (100, 10_000):
            with pytest.raises(InvalidProgram):
                await bench.load("a", rng.bytes(size))
        assert (await bench.load("a", enf)).target == "warboy"
        assert bench.deaths.empty()


async def test_a_program_is_loaded_on_all_files_of_a_lease_or_on_none(bench: Bench) -> None:
    with pytest.raises(WorkerDied) as died:
        await bench.load("a", engines.DIE_ON_LOAD, PE0, PE1)
    assert died.value.device == "npu0pe0"
    view = await bench.load("a", engines.INVERT, PE0, PE1)
    for file in (PE0, PE1):
        queue = await bench.queue("a", file)
        assert (await run(queue, Submission(1, view.id, 0, 64))).status is OK
        assert (await run(queue, Submission(1, view.id - 1, 0, 64))).status is (
            CompletionStatus.UNKNOWN_PROGRAM
        )
        queue.close()
    # the fake engine names its number of PEs, so these two answer differently
    with pytest.raises(InvalidProgram, match="changed while it was being loaded"):
        await bench.load("b", engines.INVERT, DeviceFile.parse("npu1pe0"), DeviceFile.parse("npu2"))


async def test_programs_are_described_until_they_are_unloaded(bench: Bench) -> None:
    first, second = [await bench.load("a", engines.INVERT) for _ in range(2)]
    assert bench.pool.describe("a", first.id) == first
    await bench.pool.unload("a", first.id)
    for unknown in (first.id, 99):
        with pytest.raises(UnknownProgram):
            bench.pool.describe("a", unknown)
        with pytest.raises(UnknownProgram):
            await bench.pool.unload("a", unknown)
    with pytest.raises(UnknownProgram):
        bench.pool.describe("other", second.id)
    queue = await bench.queue("a")
    assert (await run(queue, Submission(1, second.id, 0, 64))).status is OK
    unloaded = await run(queue, Submission(1, first.id, 0, 64))
    assert unloaded.status is CompletionStatus.UNKNOWN_PROGRAM
    queue.close()


async def test_a_lease_has_bounded_programs_and_queues(bench: Bench) -> None:
    for _ in range(3):
        await bench.load("a", engines.INVERT)
    with pytest.raises(LimitExceeded, match="programs of a lease is 4, the limit is 3"):
        await bench.load("a", engines.INVERT)
    queues = [await bench.queue("a") for _ in range(2)]
    with pytest.raises(LimitExceeded, match="queues of a device file is 3, the limit is 2"):
        await bench.queue("a")
    await bench.pool.close_queue("a", 1)
    await bench.pool.close_queue("a", 1)
    with pytest.raises(BrokenQueue, match="let go"):
        queues[0].reap()
    queues.append(await bench.queue("a"))
    for queue in queues:
        queue.close()


async def test_a_killed_worker_is_told_of_and_the_next_load_starts_another(bench: Bench) -> None:
    view = await bench.load("a", engines.INVERT)
    queue = await hanging(bench, "a")
    pid = bench.pid()
    pending = asyncio.ensure_future(bench.load("a", engines.INVERT))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert await bench.deaths.get() == ("a", PE0, "killed by signal 9 (SIGKILL)")
    with pytest.raises(WorkerDied) as died:
        await pending
    assert (died.value.device, died.value.cause) == ("npu0pe0", "killed by signal 9 (SIGKILL)")
    with pytest.raises(UnknownProgram):
        bench.pool.describe("a", view.id)
    await bench.pool.close_queue("a", 1)
    assert bench.pool.counters(PE0) is None
    again = await bench.load("a", engines.INVERT)
    assert again.id != view.id
    assert bench.pid() != pid
    fresh = await bench.queue("a")
    assert (await run(fresh, Submission(1, again.id, 0, 64))).status is OK
    fresh.close()
    queue.close()


@pytest.mark.parametrize(
    ("word", "cause"),
    [(engines.DIE_ON_LOAD, "killed by signal 11 (SIGSEGV)"), (engines.DIE, "exited with status 7")],
)
async def test_the_cause_of_a_death_says_how(bench: Bench, word: bytes, cause: str) -> None:
    if word is engines.DIE_ON_LOAD:
        with pytest.raises(WorkerDied):
            await bench.load("a", word)
    else:
        view = await bench.load("a", word)
        queue = await bench.queue("a")
        queue.submit(Submission(1, view.id, 0, 64))
        queue.close()
    assert await bench.deaths.get() == ("a", PE0, cause)


async def test_a_worker_that_misses_its_deadline_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"load_timeout": 0.2, "request_timeout": 0.1}
    async with a_pool(**fake_engines(monkeypatch), **limits) as bench:
        with pytest.raises(WorkerDied, match=r"no answer to Load within 0\.2 s"):
            await bench.load("a", engines.HANG_ON_LOAD)
        assert await bench.deaths.get() == ("a", PE0, "no answer to Load within 0.2 s")
        queue = await hanging(bench, "a")
        with pytest.raises(WorkerDied, match=r"no answer to Unload within 0\.1 s"):
            await bench.pool.unload("a", 2)
        queue.close()


async def test_requests_behind_a_slow_one_have_their_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_pool(**fake_engines(monkeypatch), request_timeout=0.05) as bench:
        await bench.load("a", engines.INVERT)
        os.kill(bench.pid(), signal.SIGSTOP)
        slow = asyncio.ensure_future(bench.load("a", engines.INVERT))
        await asyncio.sleep(0)
        behind = asyncio.ensure_future(bench.queue("a"))
        await asyncio.wait([behind], timeout=0.2)
        assert not behind.done()
        os.kill(bench.pid(), signal.SIGCONT)
        assert (await slow).id == 2
        (await behind).close()


async def test_release_kills_at_once_and_fails_what_is_pending(bench: Bench) -> None:
    await bench.load("a", engines.INVERT)
    queue = await bench.queue("a")
    pid = bench.pid()
    pending = [
        asyncio.ensure_future(bench.load("a", engines.HANG_ON_LOAD)),
        asyncio.ensure_future(bench.load("a", engines.INVERT, PE0, PE1)),
        asyncio.ensure_future(bench.queue("a")),
    ]
    await asyncio.sleep(0)
    stopped = asyncio.Event()
    bench.pool.release("a", stopped.set)
    assert not stopped.is_set()
    for future in pending:
        with pytest.raises(LeaseEnded):
            await future
    with pytest.raises(LeaseEnded):
        await bench.load("a", engines.INVERT)
    await stopped.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert bench.pool.counters(PE0) is None
    assert bench.deaths.empty()
    queue.close()


async def test_release_of_a_lease_without_workers_is_done_at_once(bench: Bench) -> None:
    stopped = asyncio.Event()
    bench.pool.release("never heard of", stopped.set)
    assert stopped.is_set()


async def test_release_twice_answers_both(bench: Bench) -> None:
    await bench.load("a", engines.INVERT)
    both = asyncio.Event(), asyncio.Event()
    for event in both:
        bench.pool.release("a", event.set)
    for event in both:
        await event.wait()


async def test_a_worker_is_free_to_die_during_release(bench: Bench) -> None:
    await bench.load("a", engines.INVERT)
    os.kill(bench.pid(), signal.SIGKILL)
    await bench.release("a")
    await bench.load("a", engines.INVERT)


async def test_leases_do_not_disturb_each_other(bench: Bench) -> None:
    await bench.load("a", engines.INVERT, PE0)
    view = await bench.load("b", engines.INVERT, PE1)
    queue = await bench.queue("b", PE1)
    await bench.release("a")
    assert (await run(queue, Submission(1, view.id, 0, 64))).status is OK
    assert bench.pool.describe("b", view.id) == view
    queue.close()


async def test_a_cancelled_load_leaves_no_program_behind(bench: Bench) -> None:
    await bench.load("a", engines.INVERT)
    requests = bench.pool._by_file[PE0]._pending
    os.kill(bench.pid(), signal.SIGSTOP)
    for _ in range(5):
        pending = asyncio.ensure_future(bench.load("a", engines.INVERT))
        await until(lambda: bool(requests) and requests[-1].name == "Load")
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
    os.kill(bench.pid(), signal.SIGCONT)
    queue = await bench.queue("a")
    for program in range(2, 7):
        completion = await run(queue, Submission(1, program, 0, 64))
        assert completion.status is CompletionStatus.UNKNOWN_PROGRAM
    assert (await bench.load("a", engines.INVERT)).id == 7
    queue.close()


async def test_a_load_cancelled_before_the_worker_is_ready_does_no_harm(bench: Bench) -> None:
    pending = asyncio.ensure_future(bench.load("a", engines.INVERT))
    await asyncio.sleep(0)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert (await bench.load("a", engines.INVERT)).id == 2


async def test_a_client_that_breaks_its_queue_loses_only_that(bench: Bench) -> None:
    view = await bench.load("a", engines.INVERT)
    bad, good = await bench.queue("a"), await bench.queue("a")
    os.eventfd_write(bad._submissions, 999)
    await readable(bad.completion_fd)
    with pytest.raises(BrokenQueue, match="let go"):
        bad.reap()
    assert (await run(good, Submission(1, view.id, 0, 64))).status is OK
    third = await bench.queue("a")  # the broken one no longer counts
    assert bench.deaths.empty()
    for queue in (bad, good, third):
        queue.close()


async def test_a_dead_zygote_is_replaced_and_takes_its_workers_along(bench: Bench) -> None:
    await bench.load("a", engines.INVERT, PE0)
    queue = await hanging(bench, "b", PE1)
    zygote, workers = bench.zygote(), {bench.pid(PE0), bench.pid(PE1)}
    os.kill(zygote, signal.SIGKILL)
    deaths = {await bench.deaths.get() for _ in range(2)}
    assert {(lease, file) for lease, file, _ in deaths} == {("a", PE0), ("b", PE1)}
    await bench.load("a", engines.INVERT, PE0)
    assert bench.zygote() != zygote
    assert not children() & {zygote, *workers}
    queue.close()


async def test_a_worker_is_known_dead_when_the_zygote_is_too_stuck_to_tell(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "REPORT_SECONDS", 0.01)
    await bench.load("a", engines.INVERT)
    os.kill(bench.zygote(), signal.SIGSTOP)
    os.kill(bench.pid(), signal.SIGKILL)
    assert await bench.deaths.get() == ("a", PE0, "nobody saw how")
    os.kill(bench.zygote(), signal.SIGCONT)
    await bench.load("a", engines.INVERT)


async def test_a_stuck_zygote_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_pool(**fake_engines(monkeypatch), zygote_timeout=1.0) as bench:
        zygote = bench.zygote()
        os.kill(zygote, signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="its zygote died"):
            await bench.load("a", engines.INVERT)
        assert (await bench.deaths.get())[:2] == ("a", PE0)
        await bench.load("a", engines.INVERT)
        assert bench.zygote() != zygote


async def test_a_zygote_that_cannot_start_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_descriptors()
    with pytest.raises(RuntimeError, match="the zygote ended with status 1"):
        async with a_pool(**{**fake_engines(monkeypatch), "engine": "support.engines:missing"}):
            pass
    assert open_descriptors() == before


async def test_a_zygote_with_threads_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**fake_engines(monkeypatch), "engine": "support.threaded_engines:load"}
    async with a_pool(**settings) as bench:
        with pytest.raises(WorkerDied, match="the zygote has 2 threads"):
            await bench.load("a", engines.INVERT)


async def test_a_stopped_pool_starts_nothing(bench: Bench) -> None:
    pending = asyncio.ensure_future(bench.load("a", engines.HANG_ON_LOAD))
    await asyncio.sleep(0)
    await bench.pool.stop()
    with pytest.raises(LeaseEnded):
        await pending
    with pytest.raises(BrokerDraining):
        await bench.load("a", engines.INVERT)


async def test_an_engine_of_ours_that_fails_is_no_fault_of_the_client(bench: Bench) -> None:
    with pytest.raises(InternalError):
        await bench.load("a", engines.FAIL_ON_LOAD)
    await bench.load("a", engines.INVERT)


async def test_a_descriptor_that_is_no_memfd_is_refused(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(InvalidProgram, match="no memfd"):
        await bench.pool.load("a", [PE0], theirs.fileno())


async def test_the_descriptor_of_a_program_stays_the_callers(bench: Bench) -> None:
    fd = memfd(engines.INVERT)
    before = open_descriptors()
    await bench.pool.load("a", [PE0], fd)
    assert {name for name in open_descriptors() if "program" in name} == {
        name for name in before if "program" in name
    }
    os.close(fd)


async def test_a_queue_may_be_opened_before_any_program(bench: Bench) -> None:
    number, descriptors = await bench.pool.open_queue("a", PE0, SMALL)
    assert number == 1
    queue = ClientQueue.attach(descriptors)
    view = await bench.load("a", engines.INVERT)
    assert (await run(queue, Submission(1, view.id, 0, 64))).status is OK
    queue.close()
