"""The worker's loop in a thread, with engines that do as they are told."""

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from furiosa.broker.workers import messages
from furiosa.broker.workers.child.program import Admit, LoadedProgram
from furiosa.broker.workers.child.server import Server, read_program
from furiosa.broker.workers.counters import Counters, CountersPage, Errors, create_page
from furiosa.broker.workers.messages import (
    Attach,
    Detach,
    Done,
    Inject,
    Load,
    Loaded,
    Message,
    QueueBroken,
    Ready,
    Refused,
    Unload,
)
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.common import channel
from furiosa.common.errors import InternalError, InvalidProgram, LimitExceeded
from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    Completion,
    CompletionStatus,
    Geometry,
    Submission,
    create,
)
from furiosa.queuepair.layout import PAGE
from support import engines
from support.engines import INPUT, OUTPUT, FakeBound, FakeTiming
from support.queues import duplicate, open_descriptors
from support.workers import memfd

GEOMETRY = Geometry(8, 4096)
FAR = 1 << 40


@dataclass(frozen=True)
class Gate:
    """An engine whose runs wait until the gate opens, and note the program and slot they were for."""

    program: int
    opened: threading.Event
    log: list[tuple[int, int]]

    def bind(self, inputs: Sequence[engines.Array], outputs: Sequence[engines.Array]) -> "Gate":
        return self

    def execute(self) -> FakeTiming:
        assert self.opened.wait(60)
        self.log.append((self.program, len(self.log)))
        return FakeTiming(1, 1)

    def close(self) -> None:
        self.log.append((self.program, -1))


class Driver:
    """The broker's and the client's side of one worker."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        page = create_page()
        self.counters, counters = CountersPage(page), CountersPage(page)
        os.close(page)
        self.gate = threading.Event()
        self.log: list[tuple[int, int]] = []
        self.binds = 0
        settings = WorkerSettings(max_bindings=2, max_enf_bytes=100, memory_bytes=2500)
        self._server = Server(theirs, counters, 1, settings, self._load)
        self._thread = threading.Thread(target=self._serve, args=(counters,), daemon=True)
        self._decoder = channel.Decoder(messages.MAX_PAYLOAD)
        self._received: list[Message] = []
        self._thread.start()
        assert self.receive() == Ready(())

    def _load(self, data: bytes, pes: int, traced: bool, admit: Admit) -> LoadedProgram:
        if data.startswith(b"gate"):
            gate = Gate(int(data[4:]), self.gate, self.log)
            return LoadedProgram.of("warboy", (INPUT,), (OUTPUT,), gate, 0)
        loaded = engines.load(data, pes, traced, admit)
        counting = Counting(self, data)
        return LoadedProgram.of(
            loaded.target, (INPUT,), loaded.outputs.specs, counting, loaded.memory_bytes
        )

    def _serve(self, counters: CountersPage) -> None:
        self._server.serve()
        self._server.close()
        counters.close()

    def close(self) -> None:
        self.gate.set()
        self.control.close()
        self._thread.join(60)
        self.counters.close()

    def receive(self) -> Message:
        while not self._received:
            self._decoder.feed(*channel.receive(self.control))
            for item in self._decoder.messages():
                self._received.append(messages.parse(item.payload, messages.FROM_WORKER, 0))
        return self._received.pop(0)

    def send(self, message: Message, *descriptors: int) -> None:
        channel.send(
            self.control, channel.encode(messages.encode(message), descriptors), descriptors
        )

    def ask(self, message: Message, *descriptors: int) -> Message:
        self.send(message, *descriptors)
        return self.receive()

    def load(self, program: int, content: bytes) -> Message:
        fd = memfd(content)
        try:
            return self.ask(Load(1, program, traced=False), fd)
        finally:
            os.close(fd)

    def attach(self, queue: int, geometry: Geometry = GEOMETRY) -> ClientQueue:
        descriptors = create(geometry)
        copies = duplicate(descriptors)
        message = Attach(1, queue, geometry.depth, geometry.arena_bytes)
        assert self.ask(message, *copies.as_tuple()) == Done(1)
        copies.close()
        return ClientQueue.attach(descriptors)


@dataclass(frozen=True)
class Counting:
    driver: Driver
    word: bytes

    def bind(self, inputs: Any, outputs: Any) -> FakeBound:
        self.driver.binds += 1
        return FakeBound(self.word, inputs, outputs)

    def close(self) -> None:
        pass


@pytest.fixture
def driver() -> Iterator[Driver]:
    before = open_descriptors()
    driver = Driver()
    yield driver
    driver.close()
    assert open_descriptors() == before


def reap(queue: ClientQueue, count: int = 1) -> list[Completion]:
    completions: list[Completion] = []
    while len(completions) < count:
        assert select.select([queue.completion_fd], [], [], 60)[0]
        completions += queue.reap()
    return completions


def statuses(queue: ClientQueue, *submissions: Submission) -> list[CompletionStatus]:
    for submission in submissions:
        queue.submit(submission)
    return [completion.status for completion in reap(queue, len(submissions))]


def test_a_program_is_described_loaded_and_run(driver: Driver) -> None:
    assert driver.load(5, engines.INVERT) == Loaded(1, "1pe", (INPUT,), (OUTPUT,), 6)
    queue = driver.attach(1)
    queue.arena[64:128] = range(64)
    queue.submit(Submission(9, 5, 64, 128))
    [completion] = reap(queue)
    assert (completion.id, completion.status) == (9, CompletionStatus.OK)
    assert (completion.task_ns, completion.tensor_ns) == (1000, 600)
    assert queue.arena[128:192].tolist() == [255 - n for n in range(64)]
    assert driver.counters.read(completion.started_ns + FAR) == Counters(1000, 600, 1)
    queue.close()


def test_a_run_is_refused_when_its_tensors_do_not_lie_in_the_arena(driver: Driver) -> None:
    driver.load(5, engines.INVERT)
    queue = driver.attach(1)
    end = GEOMETRY.arena_bytes
    bad = [
        (1, 512),  # misaligned
        (512, 32),
        (end, 0),  # outside
        (0, end),
        (1 << 63, 0),
        (0, (1 << 64) - 64),
        (64, 64),  # overlapping
    ]
    submissions = [Submission(n, 5, *offsets) for n, offsets in enumerate(bad)]
    assert statuses(queue, *submissions) == [CompletionStatus.BAD_RECORD] * len(bad)
    assert driver.binds == 0
    assert statuses(queue, Submission(0, 5, end - 64, end - 128)) == [CompletionStatus.OK]
    queue.close()


def test_only_loaded_programs_run(driver: Driver) -> None:
    queue = driver.attach(1)
    run = Submission(1, 5, 0, 64)
    assert statuses(queue, run) == [CompletionStatus.UNKNOWN_PROGRAM]
    driver.load(5, engines.INVERT)
    assert statuses(queue, run) == [CompletionStatus.OK]
    assert driver.ask(Unload(2, 5)) == Done(2)
    assert statuses(queue, run) == [CompletionStatus.UNKNOWN_PROGRAM]
    queue.close()


def test_a_failed_run_is_answered_and_harms_no_other(driver: Driver) -> None:
    driver.load(1, engines.FAIL)
    driver.load(2, engines.INVERT)
    queue = driver.attach(1)
    assert statuses(queue, Submission(1, 1, 0, 64), Submission(2, 2, 0, 64)) == [
        CompletionStatus.EXECUTION_FAILED,
        CompletionStatus.OK,
    ]
    queue.close()


def test_slots_are_bound_once_and_the_oldest_binding_goes_first(driver: Driver) -> None:
    driver.load(1, engines.INVERT)
    queue = driver.attach(1)

    def bound(slot: int) -> int:
        before = driver.binds
        assert statuses(queue, Submission(1, 1, slot * 128, slot * 128 + 64)) == [
            CompletionStatus.OK
        ]
        return driver.binds - before

    # room for two
    assert [bound(slot) for slot in (0, 0, 1, 0, 2, 0, 1)] == [1, 0, 1, 0, 1, 0, 1]
    queue.close()


def test_queues_take_turns_one_run_each(driver: Driver) -> None:
    for program in (0, 1, 2):
        driver.load(program, b"gate%d" % program)
    queues = [driver.attach(number) for number in range(3)]
    queues[0].submit(Submission(0, 0, 0, 64))
    for run in (1, 2, 3):
        queues[1].submit(Submission(run, 1, 0, 64))
        queues[2].submit(Submission(run, 2, 0, 64))
    driver.gate.set()
    for queue, count in zip(queues, (1, 3, 3), strict=True):
        reap(queue, count)
        queue.close()
    order = [program for program, _ in driver.log if program]
    assert order in ([1, 2] * 3, [2, 1] * 3)


def test_the_broker_is_answered_between_two_runs(driver: Driver) -> None:
    driver.load(1, b"gate1")
    queue = driver.attach(1)
    for run in range(8):
        queue.submit(Submission(run, 1, 0, 64))
    driver.send(Unload(7, 1))
    driver.gate.set()
    assert driver.receive() == Done(7)
    runs = driver.log.index((1, -1))
    assert runs <= 1
    found = [completion.status for completion in reap(queue, 8)]
    unknown = CompletionStatus.UNKNOWN_PROGRAM
    assert found == [CompletionStatus.OK] * runs + [unknown] * (8 - runs)
    queue.close()


def test_a_broken_queue_is_dropped_told_and_the_others_live(driver: Driver) -> None:
    driver.load(1, engines.INVERT)
    bad, good = driver.attach(1), driver.attach(2)
    bad._memory[PAGE : PAGE + 8] = struct.pack("<Q", 99)
    os.eventfd_write(bad._submissions, 1)
    assert driver.receive() == QueueBroken(1, "submission 0 has sequence 99")
    with pytest.raises(BrokenQueue, match="let go"):
        bad.reap()
    assert statuses(good, Submission(1, 1, 0, 64)) == [CompletionStatus.OK]
    assert driver.ask(Detach(3, 1)) == Done(3)
    bad.close()
    good.close()


def test_a_queue_whose_doorbell_jams_is_dropped_too(driver: Driver) -> None:
    driver.load(1, engines.INVERT)
    queue = driver.attach(1)
    os.eventfd_write(queue._completions, (1 << 64) - 2)
    queue.submit(Submission(1, 1, 0, 64))
    queue.submit(Submission(2, 1, 0, 64))
    assert driver.receive() == QueueBroken(1, "the doorbell's counter is full")
    queue.close()


def test_detached_means_no_longer_served(driver: Driver) -> None:
    driver.load(1, b"gate1")
    queue = driver.attach(1)
    for run in range(4):
        queue.submit(Submission(run, 1, 0, 64))
    driver.send(Detach(2, 1))
    driver.gate.set()
    assert driver.receive() == Done(2)
    assert len(driver.log) <= 1
    assert driver.load(2, engines.INVERT) == Loaded(1, "1pe", (INPUT,), (OUTPUT,), 6)
    queue.close()


def error_of(message: Message) -> Any:
    assert isinstance(message, Refused)
    return message.error


def test_refusals_carry_the_reason_and_the_worker_goes_on(driver: Driver) -> None:
    invalid = error_of(driver.load(1, b"\0\xff nonsense"))
    assert isinstance(invalid, InvalidProgram)
    assert invalid.rule == "word"
    assert isinstance(error_of(driver.load(1, engines.FAIL_ON_LOAD)), InternalError)
    many = error_of(driver.load(1, engines.MANY))
    assert isinstance(many, InvalidProgram)
    assert many.rule == "description"
    large = error_of(driver.load(1, b"x" * 101))
    assert (large.limit, large.value, large.maximum) == ("enf_bytes", 101, 100)
    assert driver.load(1, engines.INVERT) == Loaded(1, "1pe", (INPUT,), (OUTPUT,), 6)


def test_programs_share_the_memory_of_their_device(driver: Driver) -> None:
    for program in (4, 7):
        assert isinstance(driver.load(program, engines.INVERT), Loaded)
    refused = driver.load(8, engines.INVERT)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, LimitExceeded)
    assert str(refused.error) == (
        "device memory in bytes (this program asks for 1000, 500 are free beside program 4 with 1000, "
        "program 7 with 1000) is 3000, the limit is 2500"
    )
    assert driver.ask(Unload(2, 4)) == Done(2)
    assert isinstance(driver.load(8, engines.INVERT), Loaded)


def test_a_queue_that_cannot_be_attached_is_refused(driver: Driver) -> None:
    descriptors = create(GEOMETRY)
    answer = driver.ask(Attach(4, 1, 16, 4096), *descriptors.as_tuple())
    descriptors.close()
    assert isinstance(error_of(answer), InternalError)


def test_a_program_is_read_whole_from_the_start_wherever_its_descriptor_stands() -> None:
    fd = memfd(bytes(range(256)) * 100)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 25600
    assert read_program(fd, 25600) == bytes(range(256)) * 100
    with pytest.raises(LimitExceeded):
        read_program(fd, 25599)
    os.close(fd)


def test_only_a_memfd_is_read_as_a_program() -> None:
    readers = [*os.pipe(), os.open("/proc/self/status", os.O_RDONLY), os.eventfd(0)]
    for fd in readers:
        with pytest.raises(InvalidProgram, match="no memfd"):
            read_program(fd, 1000)
        os.close(fd)


DMA_ERROR, OK = CompletionStatus.DMA_ERROR, CompletionStatus.OK


def test_what_goes_wrong_is_counted_by_kind(driver: Driver) -> None:
    driver.load(1, engines.FAIL)
    driver.load(2, engines.INVERT)
    queue = driver.attach(1)
    assert driver.ask(Inject(1, 0, 1, 2, 0)) == Done(1)
    runs = [Submission(1, 1, 0, 64), Submission(2, 2, 1, 64), Submission(3, 2, 0, 64)]
    assert statuses(queue, *runs) == [
        CompletionStatus.EXECUTION_FAILED,
        CompletionStatus.BAD_RECORD,
        DMA_ERROR,
    ]
    counters = driver.counters.read(1 << 62)
    assert counters.errors == Errors(device=1, fetch=1, discarded=1)
    queue.close()


@pytest.mark.parametrize(
    ("failures", "every", "found"),
    [
        (2, 1, [DMA_ERROR, DMA_ERROR, OK, OK, OK, OK]),
        (100, 3, [OK, OK, DMA_ERROR, OK, OK, DMA_ERROR]),
        (1, 2, [OK, DMA_ERROR, OK, OK, OK, OK]),
    ],
)
def test_so_many_runs_fail_and_the_worker_is_as_good_as_before(
    driver: Driver, failures: int, every: int, found: list[CompletionStatus]
) -> None:
    driver.load(1, engines.INVERT)
    queue = driver.attach(1)
    driver.ask(Inject(1, 0, failures, every, 0))
    assert statuses(queue, *(Submission(n, 1, 0, 64) for n in range(6))) == found
    driver.ask(Inject(2, 0, 0, 1, 0))
    assert statuses(queue, *(Submission(n, 1, 0, 64) for n in range(6))) == [OK] * 6
    queue.close()


def test_a_slow_transfer_is_part_of_the_run_and_computes_nothing(driver: Driver) -> None:
    driver.load(1, engines.INVERT)
    driver.ask(Inject(1, 0, 0, 1, 2_000_000))
    queue = driver.attach(1)  # those that come later, too
    queue.submit(Submission(1, 1, 0, 64))
    [completion] = reap(queue)
    assert completion.status is OK
    assert completion.task_ns >= 2_001_000
    assert completion.tensor_ns == 600
    assert driver.counters.read(completion.started_ns + FAR).task_ns == completion.task_ns
    queue.close()
