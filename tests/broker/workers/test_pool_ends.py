"""How workers end: by death, by deadline, with their zygote, with their lease, with the pool."""

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from furiosa.broker.workers import process
from furiosa.common.errors import (
    BrokerDraining,
    LeaseEnded,
    UnknownProgram,
    WorkerDied,
)
from furiosa.queuepair import (
    CompletionStatus,
    Submission,
)
from support import engines
from support.queues import open_descriptors
from support.workers import (
    PE0,
    PE1,
    Bench,
    a_pool,
    children,
    fake_engines,
    hanging,
    run,
)

OK = CompletionStatus.OK


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


async def test_a_run_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_pool(**fake_engines(monkeypatch), run_timeout=0.2) as bench:
        view = await bench.load("b", engines.INVERT, PE1)
        idle = await bench.queue("b", PE1)
        (await hanging(bench, "a")).close()
        assert await bench.deaths.get() == ("a", PE0, "one run took longer than 0.2 s")
        assert (await run(idle, Submission(1, view.id, 0, 64))).status is OK
        idle.close()


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


async def test_a_worker_that_has_not_even_started_is_ended(bench: Bench) -> None:
    zygote = bench.zygote()
    pending = asyncio.ensure_future(bench.load("a", engines.INVERT))
    await asyncio.sleep(0)
    await bench.release("a")
    with pytest.raises(LeaseEnded):
        await pending
    await bench.load("a", engines.INVERT)
    assert bench.zygote() == zygote


async def test_the_zygote_ends_a_worker_on_request(bench: Bench) -> None:
    """As it has to for one whose pidfd never came."""
    await bench.load("a", engines.INVERT)
    bench.pool._spawner._have_killed(99)  # which is nobody
    bench.pool._spawner._have_killed(1)
    assert await bench.deaths.get() == ("a", PE0, "killed by signal 9 (SIGKILL)")


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_broker_out_of_descriptors_loses_the_new_worker_only(bench: Bench) -> None:
    view = await bench.load("b", engines.INVERT, PE1)
    queue = await bench.queue("b", PE1)
    zygote = bench.zygote()
    pending = asyncio.ensure_future(bench.load("a", engines.INVERT))
    await asyncio.sleep(0)
    with no_descriptors_left():
        with pytest.raises(WorkerDied, match=r"its pidfd did not arrive: .* descriptors were cut"):
            await pending
        assert (await run(queue, Submission(1, view.id, 0, 64))).status is OK
    assert (await bench.deaths.get())[:2] == ("a", PE0)
    await bench.load("a", engines.INVERT)
    assert bench.zygote() == zygote
    queue.close()


async def test_a_pool_starts_in_the_main_thread_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def started_elsewhere() -> None:
        async with a_pool(**fake_engines(monkeypatch)):
            pass

    with pytest.raises(RuntimeError, match="from the main thread only"):
        await asyncio.to_thread(asyncio.run, started_elsewhere())


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
