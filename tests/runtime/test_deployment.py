"""One program's queues, without a runner around them."""

import os
import select
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import pytest

from furiosa.common.names import DeviceFile
from furiosa.queuepair import Completion, CompletionStatus, WorkerQueue, create
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._core.places import Layout
from furiosa.runtime._core.stats import Tally
from furiosa.runtime._deployment import Deployment, Port
from support.fake_connection import X, Y
from support.queues import duplicate

LAYOUT = Layout([X], [Y], 2)
FILE = DeviceFile.parse("npu0pe0-1")


class Descriptors:
    """What a deployment waits for, and who makes it."""

    def __init__(self) -> None:
        self.all: Sequence[int] = ()
        self.closed = False

    def watch(self, completions: Sequence[int], bell: int) -> Self:
        self.all = (*completions, bell)
        return self

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def ends() -> Iterator[tuple[Deployment[Descriptors], WorkerQueue]]:
    descriptors = create(LAYOUT.geometry)
    worker = WorkerQueue.attach(duplicate(descriptors), LAYOUT.geometry)
    port = Port.attach(FILE, 1, descriptors, LAYOUT.geometry)
    deployment = Deployment(7, LAYOUT, [port], Descriptors(), Tally())
    yield deployment, worker
    deployment.fail(FuriosaRuntimeError("over"))
    worker.close()


def readable(deployment: Deployment[Descriptors]) -> bool:
    poll = select.poll()
    for fd in deployment.watch.all:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def test_a_run_through_the_queue(ends: tuple[Deployment[Descriptors], WorkerQueue]) -> None:
    deployment, worker = ends
    run = deployment.runs.enter()
    deployment.fill(run, [np.ones(X.shape, np.float32)])
    deployment.submit(run, run.slot)
    (submission,) = worker.take()
    assert (submission.id, submission.program) == (run.id, 7)
    assert (submission.input_offset, submission.output_offset) == (run.slot, run.slot + 3136)
    worker.arena[submission.output_offset :][: Y.nbytes] = 0
    worker.complete(Completion(run.id, CompletionStatus.OK))
    assert readable(deployment)
    assert deployment.collect([])
    assert not readable(deployment)
    (output,) = deployment.read(run, (0,))
    assert np.array_equal(output, np.zeros(Y.shape, np.float32))
    deployment.runs.leave(run)


def test_a_ring_is_heard_once(ends: tuple[Deployment[Descriptors], WorkerQueue]) -> None:
    deployment, _ = ends
    runs = deployment.runs
    first, second, third = runs.enter(), runs.enter(), runs.enter()
    runs.lead(third)
    runs.leave(first)  # its slot goes to the leader
    assert readable(deployment)
    assert not deployment.collect([])
    assert not readable(deployment)
    runs.resign(third)
    for run in (second, third):
        runs.leave(run)


def test_a_doorbell_that_cannot_be_rung_is_named(
    ends: tuple[Deployment[Descriptors], WorkerQueue],
) -> None:
    deployment, worker = ends
    os.eventfd_write(worker.submission_fd, 2**64 - 2)  # as full as it gets
    run = deployment.runs.enter()
    with pytest.raises(FuriosaRuntimeError, match=r"^npu0pe0-1: its queue broke: "):
        deployment.submit(run, run.slot)
    deployment.runs.leave(run)


def test_queues_stay_open_until_nobody_uses_them(
    ends: tuple[Deployment[Descriptors], WorkerQueue],
) -> None:
    deployment, _ = ends
    run = deployment.runs.enter()
    deployment.runs.lead(run)
    deployment.fail(FuriosaRuntimeError("worker died"))
    assert readable(deployment), "the leader is woken"
    deployment.runs.resign(run)
    deployment.dispose_if_unused()
    assert readable(deployment), "the run has not left"
    deployment.runs.leave(run)
    deployment.dispose_if_unused()
    deployment.dispose_if_unused()
    assert not hasattr(deployment.ports[0].queue, "arena")
    assert deployment.watch.closed


def test_memory_that_is_no_queue_is_named() -> None:
    made = create(LAYOUT.geometry)
    os.close(made.memory)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    with pytest.raises(FuriosaRuntimeError, match=r"^npu0pe0-1: cannot map its queue: "):
        Port.attach(FILE, 1, replace(made, memory=null), LAYOUT.geometry)
