"""Every blocking call, ended by Ctrl-C or an error at each place where it may wait: nothing is left, and what
it was called on works or is closed.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from furiosa.runtime import sync
from furiosa.runtime._core.errors import FuriosaRuntimeError, SessionClosed
from support.cuts import MOST, Interrupted, Interruption
from support.fake_connection import FakeNpu
from support.leftovers import nothing_left
from support.runners import ENF, ones
from support.waiting import block_until

Life = Callable[[FakeNpu, Interruption], None]


def right(runner: sync.Runner, value: float) -> None:
    (output,) = runner.run(ones(value))
    assert np.array_equal(output, ones(2 * value))


@contextmanager
def sound(worker_num: int) -> Iterator[sync.Runner]:
    """A runner that works at the end, too."""
    with sync.create_runner(ENF, worker_num=worker_num) as runner:
        yield runner
        right(runner, 3)
        runner._loaded._deployments[0].runs.check()


@contextmanager
def meanwhile(function: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=function, name="meanwhile")
    thread.start()
    yield
    thread.join()


def creating_a_runner(npu: FakeNpu, cut: Interruption) -> None:
    runner = cut(lambda: sync.create_runner(ENF))
    if cut.done:
        right(runner, 2)
        runner.close()


def running(npu: FakeNpu, cut: Interruption) -> None:
    with sound(1) as runner:
        cut(lambda: runner.run(ones()))


def running_by_names(npu: FakeNpu, cut: Interruption) -> None:
    with sound(1) as runner:
        cut(lambda: runner.run_with(["y"], {"x": ones()}))


def running_after_others(npu: FakeNpu, cut: Interruption) -> None:
    """Who is interrupted may be collecting for others, and those are told then."""
    with sound(1) as runner:
        npu.hold()
        runs = runner._loaded._deployments[0].runs

        def other() -> None:
            with suppress(FuriosaRuntimeError):
                right(runner, 1)

        def go_on() -> None:
            block_until(lambda: cut.came or cut.done or len(runs._owned) == 3)
            npu.go.set()

        with meanwhile(other), meanwhile(other):
            block_until(lambda: len(runs._owned) == 2)
            with meanwhile(go_on):
                cut(lambda: runner.run(ones()))


def running_on_a_dead_worker(npu: FakeNpu, cut: Interruption) -> None:
    with sound(1) as runner:
        npu.kill_worker()
        cut(lambda: runner.run(ones()))


def closing_a_runner(npu: FakeNpu, cut: Interruption) -> None:
    runner = sync.create_runner(ENF)
    cut(runner.close)
    assert runner.close()


def closing_a_busy_runner(npu: FakeNpu, cut: Interruption) -> None:
    runner = sync.create_runner(ENF, worker_num=1)
    npu.hold()

    def run() -> None:
        try:
            right(runner, 1)
        except SessionClosed:
            assert not cut.done

    def go_on() -> None:
        block_until(lambda: cut.came or runner._loaded._session.phase.value == "closed")
        npu.go.set()

    with meanwhile(run):
        block_until(lambda: len(runner._loaded._deployments[0].runs._owned) == 1)
        with meanwhile(go_on):
            cut(runner.close)
    runner.close()


def entering_a_runtime(npu: FakeNpu, cut: Interruption) -> None:
    runtime = sync.Runtime()
    cut(runtime.__enter__)
    with runtime, runtime.create_runner(ENF) as runner:
        right(runner, 2)


def creating_a_runner_of_a_runtime(npu: FakeNpu, cut: Interruption) -> None:
    with sync.Runtime() as runtime:
        runner = cut(lambda: runtime.create_runner(ENF))
        if not cut.done:
            runner = runtime.create_runner(ENF)
        right(runner, 2)


def closing_a_runtime(npu: FakeNpu, cut: Interruption) -> None:
    runtime = sync.Runtime()
    runner = runtime.create_runner(ENF)
    submitter, _ = runtime.create_queue(ENF)
    submitter.submit(ones())
    cut(runtime.close)
    runtime.close()
    with pytest.raises(SessionClosed):
        runner.run(ones())
    with pytest.raises(SessionClosed):
        submitter.submit(ones())


def creating_a_queue(npu: FakeNpu, cut: Interruption) -> None:
    ends = cut(lambda: sync.create_queue(ENF))
    if cut.done:
        with ends:
            pass


def submitting(npu: FakeNpu, cut: Interruption) -> None:
    with sync.create_queue(ENF, worker_num=1) as (submitter, receiver):
        cut(lambda: submitter.submit(ones(), 0))
        submitter.close()
        if cut.came:  # as it started a worker, of which nobody knows now whether it works
            with pytest.raises(FuriosaRuntimeError, match="the queue was given up: a call"):
                list(iter(receiver.recv, None))
        else:
            assert [context for context, _ in receiver] == [0]


def submitting_when_there_is_no_room(npu: FakeNpu, cut: Interruption) -> None:
    with sync.create_queue(ENF, worker_num=1, input_queue_size=1) as (submitter, receiver):
        line = submitter._queue._line
        npu.hold()
        for context in (0, 1):
            submitter.submit(ones(), context)

        def go_on() -> None:
            block_until(lambda: cut.came or bool(line.senders))
            npu.go.set()

        with meanwhile(go_on):
            cut(lambda: submitter.submit(ones(), 2))
        submitter.submit(ones(), 3)
        submitter.close()
        assert [context for context, _ in receiver] == [0, 1, *([2] * cut.done), 3]
        assert not line.senders


def receiving(npu: FakeNpu, cut: Interruption) -> None:
    with sync.create_queue(ENF, worker_num=1) as (submitter, receiver):
        line = receiver._queue._line

        def feed() -> None:
            block_until(lambda: cut.came or bool(line.receivers))
            submitter.submit(ones(), "it")
            submitter.close()

        with meanwhile(feed):
            result = cut(receiver.recv)
        got = [result[0]] if cut.done else []
        assert [*got, *(context for context, _ in receiver)] == ["it"]
        assert not line.receivers


def closing_a_receiver(npu: FakeNpu, cut: Interruption) -> None:
    submitter, receiver = sync.create_queue(ENF, worker_num=1)
    for context in (0, 1):
        submitter.submit(ones(), context)
    cut(receiver.close)
    receiver.close()
    with pytest.raises(SessionClosed):
        receiver.recv()


LIVES = (
    creating_a_runner,
    running,
    running_by_names,
    running_after_others,
    running_on_a_dead_worker,
    closing_a_runner,
    closing_a_busy_runner,
    entering_a_runtime,
    creating_a_runner_of_a_runtime,
    closing_a_runtime,
    creating_a_queue,
    submitting,
    submitting_when_there_is_no_room,
    receiving,
    closing_a_receiver,
)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
@pytest.mark.parametrize(
    ("error", "late"),
    [(Interrupted, False), (Interrupted, True), (MemoryError, False)],
    ids=["ctrl-c", "ctrl-c-late", "error"],
)
def test_ended_at_each_place_where_it_waits(
    npu: FakeNpu, life: Life, error: type[BaseException], late: bool
) -> None:
    for place in itertools.count(1):
        cut = Interruption(place, error, late=late)
        with nothing_left(npu, by_hand=False):
            life(npu, cut)
        if not cut.came:
            assert cut.done
            assert place > 1, "it waits nowhere"
            return
        assert place < MOST
        npu.go.set()
