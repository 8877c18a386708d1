"""The pool with real processes; engines do as they are told, unless a real program is run."""

import asyncio
import os
import signal
import socket

import numpy as np
import pytest

from furiosa.broker.workers.counters import Counters
from furiosa.common.errors import (
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
from support.waiting import until
from support.workers import (
    FUSED,
    PE0,
    PE1,
    SMALL,
    Bench,
    a_pool,
    fake_engines,
    memfd,
    readable,
    run,
)

OK = CompletionStatus.OK


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


async def test_queues_can_be_closed_and_programs_kept(bench: Bench) -> None:
    view = await bench.load("a", engines.INVERT, PE0, PE1)
    theirs = [await bench.queue("a", file) for file in (PE0, PE1)]
    other = await bench.load("b", engines.INVERT, DeviceFile.parse("npu1pe0"))
    kept = await bench.queue("b", DeviceFile.parse("npu1pe0"))
    bench.pool.detach_queues("a")
    for queue in theirs:
        await readable(queue.completion_fd)
        with pytest.raises(BrokenQueue, match="let go"):
            queue.reap()
        queue.close()
    assert (await run(kept, Submission(1, other.id, 0, 64))).status is OK
    again = await bench.queue("a")
    assert (await run(again, Submission(1, view.id, 0, 64))).status is OK
    bench.pool.detach_queues("never heard of")
    for queue in (kept, again):
        queue.close()


async def test_a_queue_whose_client_leaves_before_the_worker_has_it_is_never_served(
    bench: Bench,
) -> None:
    opening = asyncio.ensure_future(bench.pool.open_queue("a", PE0, SMALL))
    await asyncio.sleep(0)  # its worker is being started
    bench.pool.detach_queues("a")
    with pytest.raises(LeaseEnded):
        await opening
    (await bench.queue("a")).close()  # the next client's


async def test_tensor_memory_is_bounded_by_lease_and_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = SMALL.arena_bytes
    bounds = {"max_lease_arena_bytes": 2 * page, "max_total_arena_bytes": 3 * page}
    async with a_pool(**fake_engines(monkeypatch), **bounds) as bench:
        await bench.load("c", engines.DIE, DeviceFile.parse("npu1pe0"))
        queues = [await bench.queue("a", PE0), await bench.queue("a", PE1)]
        with pytest.raises(LimitExceeded) as of_lease:
            await bench.queue("a", PE0)
        assert str(of_lease.value) == "arenas of a lease in bytes is 12288, the limit is 8192"
        queues.append(await bench.queue("c", DeviceFile.parse("npu1pe0")))
        with pytest.raises(LimitExceeded, match="arenas of all leases in bytes is 16384"):
            await bench.queue("b", PE1)
        # whichever way a queue ends, its share is free again
        queues[2].submit(Submission(1, 1, 0, 64))
        await bench.deaths.get()
        queues.append(await bench.queue("b", DeviceFile.parse("npu1pe1")))
        await bench.release("b")
        await bench.pool.close_queue("a", 1)
        bench.pool.detach_queues("a")
        queues += [await bench.queue("a", PE0) for _ in range(2)]
        for queue in queues:
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
