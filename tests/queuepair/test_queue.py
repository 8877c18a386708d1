"""Order, flow control and hostile records of the two ends."""

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    Completion,
    CompletionStatus,
    Geometry,
    QueueFull,
    Submission,
    WorkerQueue,
    create,
)
from furiosa.queuepair.layout import PAGE
from support.queues import both_ends, duplicate, open_descriptors

OK = CompletionStatus.OK
GEOMETRY = Geometry(4, 4096)
Ends = tuple[ClientQueue, WorkerQueue]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with both_ends(GEOMETRY) as pair:
        yield pair


def test_every_field_arrives_unchanged(ends: Ends) -> None:
    client, worker = ends
    submission = Submission((1 << 64) - 1, (1 << 32) - 1, (1 << 64) - 64, 1 << 63)
    client.submit(submission)
    assert worker.take() == [submission]
    completion = Completion(submission.id, CompletionStatus.EXECUTION_FAILED, 1 << 60, 5, 1 << 63)
    worker.complete(completion)
    assert client.reap() == [completion]


def test_neither_end_waits(ends: Ends) -> None:
    client, worker = ends
    assert worker.take() == []
    assert client.reap() == []


def test_the_ring_is_full_at_depth_until_a_completion_is_reaped(ends: Ends) -> None:
    client, worker = ends
    for n in range(4):
        client.submit(Submission(n, 0, 0, 0))
    with pytest.raises(QueueFull):
        client.submit(Submission(4, 0, 0, 0))
    worker.take()
    worker.complete(Completion(2, OK))
    with pytest.raises(QueueFull):
        client.submit(Submission(4, 0, 0, 0))
    assert client.reap() == [Completion(2, OK)]
    client.submit(Submission(4, 0, 0, 0))
    assert worker.take() == [Submission(4, 0, 0, 0)]


def test_an_id_in_flight_is_refused_and_free_again_afterwards(ends: Ends) -> None:
    client, worker = ends
    client.submit(Submission(7, 0, 0, 0))
    with pytest.raises(ValueError, match="submission 7 is in flight"):
        client.submit(Submission(7, 1, 0, 0))
    worker.take()
    worker.complete(Completion(7, OK))
    client.reap()
    client.submit(Submission(7, 1, 0, 0))
    assert worker.take() == [Submission(7, 1, 0, 0)]


def test_a_field_that_does_not_fit_changes_nothing(ends: Ends) -> None:
    client, worker = ends
    with pytest.raises(struct.error):
        client.submit(Submission(1, 1 << 32, 0, 0))
    assert client.in_flight == 0
    client.submit(Submission(1, 1, 0, 0))
    assert worker.take() == [Submission(1, 1, 0, 0)]


def test_tensors_written_by_one_end_are_read_by_the_other(ends: Ends) -> None:
    client, worker = ends
    client.arena[100:200] = np.arange(100, dtype=np.uint8)
    np.testing.assert_array_equal(worker.arena[100:200], np.arange(100, dtype=np.uint8))
    assert client.arena.ctypes.data % 64 == 0
    assert len(client.arena) == GEOMETRY.arena_bytes


@settings(max_examples=60)
@given(st.data(), st.sampled_from([1, 2, 8]))
def test_any_interleaving_delivers_each_record_once_and_in_order(
    data: st.DataObject, depth: int
) -> None:
    """Against a model: two queues and a set. Runs are completed in any order."""
    with both_ends(Geometry(depth, 64)) as (client, worker):
        rung: deque[Submission] = deque()
        open_: list[Submission] = []
        done: deque[Completion] = deque()
        for n in range(data.draw(st.integers(0, 60))):
            match data.draw(st.sampled_from("stcr")):
                case "s":
                    full = len(rung) + len(open_) + len(done) == depth
                    with pytest.raises(QueueFull) if full else contextlib.nullcontext():
                        client.submit(Submission(n, n, n * 64, n * 128))
                    if not full:
                        rung.append(Submission(n, n, n * 64, n * 128))
                case "t":
                    assert worker.take() == list(rung)
                    open_.extend(rung)
                    rung.clear()
                case "c" if open_:
                    chosen = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
                    completion = Completion(chosen.id, OK, n, n + 1, n + 2)
                    worker.complete(completion)
                    done.append(completion)
                case "r":
                    assert client.reap() == list(done)
                    done.clear()
            assert client.in_flight == len(rung) + len(open_) + len(done)


ECHO = """
import sys, select
from furiosa.queuepair import *
geometry = Geometry(int(sys.argv[1]), int(sys.argv[2]))
queue = WorkerQueue.attach(Descriptors.of(tuple(map(int, sys.argv[3:6]))), geometry)
total, served = int(sys.argv[6]), 0
while served < total:
    select.select([queue.submission_fd], [], [])
    for s in queue.take():
        block = queue.arena[s.input_offset : s.input_offset + 64]
        queue.arena[s.output_offset : s.output_offset + 64] = block ^ 255
        queue.complete(Completion(s.id, CompletionStatus.OK, s.program, 0, served))
        served += 1
queue.close()
"""


def drive(client: ClientQueue, total: int) -> None:
    """Submit `total` runs of the echo worker, as many at once as fit, and check each answer."""
    depth = client.geometry.depth
    free = list(range(depth))
    slots: dict[int, int] = {}
    submitted = ended = 0
    while ended < total:
        while free and submitted < total:
            slot = slots[submitted] = free.pop()
            offset = slot * 128
            client.arena[offset : offset + 64] = submitted % 251
            client.submit(Submission(submitted, submitted, offset, offset + 64))
            submitted += 1
        assert select.select([client.completion_fd], [], [], 60)[0], f"no answer after {ended}"
        for completion in client.reap():
            assert completion == Completion(ended, OK, ended, 0, ended)
            slot = slots.pop(ended)
            answer = client.arena[slot * 128 + 64 : slot * 128 + 128]
            assert (answer == (255 ^ ended % 251)).all()
            free.append(slot)
            ended += 1


@pytest.mark.parametrize("depth", [1, 4, 64])
def test_thousands_of_records_cross_a_process_border_in_order(depth: int) -> None:
    geometry = Geometry(depth, depth * 128)
    total = 4000
    descriptors = create(geometry)
    numbers = [depth, geometry.arena_bytes, *descriptors.as_tuple(), total]
    with subprocess.Popen(
        [sys.executable, "-c", ECHO, *map(str, numbers)], pass_fds=descriptors.as_tuple()
    ) as worker:
        client = ClientQueue.attach(descriptors)
        try:
            drive(client, total)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            client.close()


def test_thousands_of_records_cross_threads_with_a_reaper_of_its_own() -> None:
    total = 5000
    with both_ends(Geometry(8, 64)) as (client, worker):
        window = threading.Semaphore(8)
        reaped: list[int] = []

        def serve() -> None:
            served = 0
            while served < total:
                select.select([worker.submission_fd], [], [])
                for submission in worker.take():
                    worker.complete(Completion(submission.id, OK))
                    served += 1

        def reap() -> None:
            while len(reaped) < total:
                select.select([client.completion_fd], [], [])
                for completion in client.reap():
                    reaped.append(completion.id)
                    window.release()

        threads = [threading.Thread(target=target, daemon=True) for target in (serve, reap)]
        for thread in threads:
            thread.start()
        for n in range(total):
            assert window.acquire(timeout=60)
            client.submit(Submission(n, 0, 0, 0))
        for thread in threads:
            thread.join(60)
        assert reaped == list(range(total))


def scribble(queue: ClientQueue | WorkerQueue, offset: int, content: bytes) -> None:
    queue._memory[offset : offset + len(content)] = content


def test_worker_refuses_more_records_than_the_ring_holds(ends: Ends) -> None:
    client, worker = ends
    os.eventfd_write(client._submissions, 5)
    with pytest.raises(BrokenQueue, match="5 submissions rung while 0 are open"):
        worker.take()


def test_worker_counts_open_runs_against_the_ring(ends: Ends) -> None:
    client, worker = ends
    for n in range(3):
        client.submit(Submission(n, 0, 0, 0))
    worker.take()
    os.eventfd_write(client._submissions, 2)
    with pytest.raises(BrokenQueue, match="2 submissions rung while 3 are open"):
        worker.take()


def test_worker_refuses_a_doorbell_without_a_record(ends: Ends) -> None:
    client, worker = ends
    client.submit(Submission(1, 0, 0, 0))
    worker.take()
    os.eventfd_write(client._submissions, 1)
    scribble(client, PAGE + 64, struct.pack("<Q", 77))
    with pytest.raises(BrokenQueue, match="submission 1 has sequence 77"):
        worker.take()


def test_worker_survives_a_doorbell_filled_by_hand(ends: Ends) -> None:
    client, worker = ends
    client.submit(Submission(1, 0, 0, 0))
    worker.take()
    os.eventfd_write(client._completions, (1 << 64) - 2)
    with pytest.raises(BrokenQueue, match="counter is full"):
        worker.complete(Completion(1, OK))


COMPLETIONS = GEOMETRY.completions_offset
FORGED = {
    "sequence": (struct.pack("<QQI", 1, 1, 0), "completion 0 has sequence 1"),
    "id": (struct.pack("<QQI", 0, 2, 0), "run 2, which is not in flight"),
    "status": (struct.pack("<QQI", 0, 1, 5), "run 1 has status 5"),
}


@pytest.mark.parametrize("case", FORGED)
def test_client_refuses_a_forged_completion(ends: Ends, case: str) -> None:
    record, complaint = FORGED[case]
    client, worker = ends
    client.submit(Submission(1, 0, 0, 0))
    scribble(worker, COMPLETIONS, record)
    os.eventfd_write(worker._completions, 1)
    with pytest.raises(BrokenQueue, match=complaint):
        client.reap()


def test_client_refuses_more_completions_than_runs_in_flight(ends: Ends) -> None:
    client, worker = ends
    client.submit(Submission(1, 0, 0, 0))
    worker.take()
    worker.complete(Completion(1, OK))
    os.eventfd_write(worker._completions, 1)
    with pytest.raises(BrokenQueue, match="2 completions rung, 1 runs are in flight"):
        client.reap()


def test_a_client_learns_at_once_that_the_worker_let_go(ends: Ends) -> None:
    client, worker = ends
    for n in range(3):
        client.submit(Submission(n, 0, 0, 0))
    worker.take()
    worker.complete(Completion(0, OK))
    worker.complete(Completion(1, OK))
    worker.close()
    assert client.reap() == [Completion(0, OK), Completion(1, OK)]
    assert select.select([client.completion_fd], [], [], 60)[0]
    with pytest.raises(BrokenQueue, match="the worker let go"):
        client.reap()


def test_the_client_pays_for_the_arena_before_the_first_run() -> None:
    geometry = Geometry(4, 1 << 20)
    descriptors = create(geometry)
    worker = WorkerQueue.attach(duplicate(descriptors), geometry)
    memory = os.dup(descriptors.memory)
    assert os.fstat(memory).st_blocks * 512 <= PAGE
    client = ClientQueue.attach(descriptors)
    assert os.fstat(memory).st_blocks * 512 >= geometry.total_bytes
    os.close(memory)
    client.close()
    worker.close()


def test_a_run_cannot_end_twice(ends: Ends) -> None:
    client, worker = ends
    client.submit(Submission(1, 0, 0, 0))
    client.submit(Submission(2, 0, 0, 0))
    worker.take()
    worker.complete(Completion(1, OK))
    worker.complete(Completion(1, OK))
    with pytest.raises(BrokenQueue, match="run 1, which is not in flight"):
        client.reap()


@given(st.binary(min_size=64, max_size=64), st.integers(0, (1 << 64) - 2))
@settings(max_examples=200)
def test_random_submissions_never_do_more_than_break_the_queue(record: bytes, rung: int) -> None:
    with both_ends(GEOMETRY) as (client, worker):
        scribble(client, PAGE, record)
        os.eventfd_write(client._submissions, rung)
        try:
            taken = worker.take()
        except BrokenQueue:
            return
        assert len(taken) == rung <= 4


def test_closing_gives_everything_back() -> None:
    before = open_descriptors()
    with both_ends(GEOMETRY):
        assert len(open_descriptors()) == len(before) + 6
    assert open_descriptors() == before


def test_close_twice_is_close_once(ends: Ends) -> None:
    client, _ = ends
    client.close()
    client.close()


def test_a_view_outlives_its_queue() -> None:
    descriptors = create(GEOMETRY)
    other = duplicate(descriptors)
    client = ClientQueue.attach(descriptors)
    view = client.arena[:64].view(np.float32)
    client.close()
    view[:] = 2.5
    worker = WorkerQueue.attach(other, GEOMETRY)
    assert worker.arena[:64].view(np.float32).tolist() == [2.5] * 16
    worker.close()
