"""What the broker believes of a worker: a socket that says anything, and no process behind it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from furiosa.broker.workers import messages
from furiosa.broker.workers.messages import (
    Detach,
    Done,
    Load,
    Loaded,
    Message,
    QueueBroken,
    Ready,
    Refused,
    Spawn,
    Started,
)
from furiosa.broker.workers.process import Process
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.broker.workers.worker import Worker
from furiosa.common import channel
from furiosa.common.errors import (
    DeviceBusy,
    InternalError,
    InvalidProgram,
    LeaseEnded,
    WorkerDied,
)
from furiosa.queuepair import create
from support.queues import open_descriptors
from support.workers import PE0, SMALL

if TYPE_CHECKING:
    from furiosa.broker.workers.spawner import Spawner


class Puppet:
    """A worker whose process is this test. It "dies" when it is killed."""

    def __init__(self, settings: WorkerSettings | None = None, forked: bool = True) -> None:
        self.forked = forked
        self.ends: list[str | None] = []
        self.broken: list[tuple[int, str]] = []
        self.killed = asyncio.Event()
        self.worker = Worker(
            cast("Spawner", self),
            settings or WorkerSettings(),
            PE0,
            (0,),
            self.ends.append,
            lambda queue, cause: self.broken.append((queue, cause)),
        )

    def spawn(
        self,
        name: str,
        cpus: Sequence[int],
        descriptors: tuple[int, int, int],
        on_spawned: Callable[[], None],
        on_exit: Callable[[str], None],
    ) -> Process:
        """As `Spawner.spawn`."""
        assert (name, cpus) == ("npu0pe0", (0,))
        self.sock = socket.socket(fileno=os.dup(descriptors[0]))
        self.exit = on_exit
        self.spawned = on_spawned
        if self.forked:
            on_spawned()
        return cast("Process", self)

    pid = 4711

    def watch(self, pidfd: int) -> None:
        """As `Process.watch`."""
        os.close(pidfd)

    def kill(self) -> None:
        """As `Process.kill`."""
        self.killed.set()

    def say(self, *answers: Message) -> None:
        for message in answers:
            self.sock.sendall(channel.encode(messages.encode(message)))

    def start(self) -> None:
        """STARTED, with a descriptor of no matter what."""
        data = channel.encode(messages.encode(Started()), (0,))
        channel.send(self.sock, data, (self.sock.fileno(),))

    async def killed_for(self, complaint: str) -> None:
        await self.killed.wait()
        self.exit("killed by signal 9 (SIGKILL)")
        [cause] = self.ends
        assert cause is not None
        assert complaint in cause


@pytest.fixture
async def puppet() -> AsyncIterator[Puppet]:
    before = open_descriptors()
    puppet = Puppet()
    yield puppet
    if not puppet.ends:
        puppet.exit("test over")
    puppet.sock.close()
    assert open_descriptors() == before


async def started(puppet: Puppet) -> Worker:
    puppet.start()
    puppet.say(Ready(("something",)))
    await puppet.worker.ready
    assert puppet.worker.lacks == ("something",)
    return puppet.worker


async def test_answers_reach_who_asked(puppet: Puppet) -> None:
    worker = await started(puppet)
    load, detach = worker.load(7, puppet.sock.fileno(), False), worker.detach(3)
    decoder = channel.Decoder(messages.MAX_PAYLOAD)
    asked: list[channel.Message] = []
    while len(asked) < 2:
        decoder.feed(*channel.receive(puppet.sock))
        asked += decoder.messages()
    assert [messages.parse(m.payload, [Load, Detach], len(m.descriptors)) for m in asked] == [
        Load(1, 7, traced=False),
        Detach(2, 3),
    ]
    asked[0].close()
    answer = Loaded(1, "warboy", (), (), 5)
    puppet.say(answer, Done(2))
    assert await load == answer
    assert await detach == Done(2)


async def test_a_worker_may_refuse_for_its_program_only(puppet: Puppet) -> None:
    worker = await started(puppet)
    puppet.say(Refused.of(1, InvalidProgram("rule", "detail")))
    with pytest.raises(InvalidProgram) as invalid:
        await worker.detach(1)
    assert (invalid.value.rule, invalid.value.detail) == ("rule", "detail")
    for refusal in (
        Refused.of(2, DeviceBusy("npu0pe0", holder_pid=1)),
        Refused(3, "NO_SUCH_REASON", "text", {}),
        Refused(4, "LIMIT_EXCEEDED", "text", {"value": "many"}),
    ):
        puppet.say(refusal)
        with pytest.raises(InternalError):
            await worker.detach(1)


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([Ready(())], "READY twice"),
        ([Done(2)], "an answer to request 2, which is not the oldest"),
        ([Done(1), Done(1)], "an answer to request 1, which is not the oldest"),
        ([Loaded(1, "warboy", (), (), 5)], "Loaded, expected Done"),
        ([QueueBroken(1, "x")], "more queues are broken than it ever had"),
        ([Spawn(1, "npu0pe0", (), "")], "kind 'Spawn' is not expected here"),
    ],
)
async def test_a_worker_that_breaks_the_protocol_is_killed(
    puppet: Puppet, answers: list[Message], complaint: str
) -> None:
    worker = await started(puppet)
    first, second = worker.detach(1), worker.detach(2)
    puppet.say(*answers)
    await puppet.killed_for(complaint)
    for future in {first, second} if answers[0] != Done(1) else {second}:
        with pytest.raises(WorkerDied, match=complaint):
            await future


async def test_bytes_of_no_sense_and_descriptors_from_a_worker_kill_it(puppet: Puppet) -> None:
    await started(puppet)
    data = channel.encode(messages.encode(Done(1)), [0, 0])
    channel.send(puppet.sock, data, [puppet.sock.fileno()] * 2)
    await puppet.killed_for("Done with 2 descriptors")


async def test_a_worker_introduces_itself_once(puppet: Puppet) -> None:
    await started(puppet)
    puppet.start()
    await puppet.killed_for("STARTED twice")


async def test_a_worker_says_nothing_before_it_has_started(puppet: Puppet) -> None:
    puppet.say(Ready(()))
    await puppet.killed_for("Ready before STARTED")


async def test_an_endless_message_kills_its_sender(puppet: Puppet) -> None:
    puppet.sock.sendall(channel.HEADER.pack(0xFFFF_FFFF, 0))
    await puppet.killed_for("a message of 4294967295 bytes")


async def test_a_queue_can_be_called_broken_once(puppet: Puppet) -> None:
    worker = await started(puppet)
    descriptors = create(SMALL)
    attached = worker.attach(5, SMALL, descriptors)
    descriptors.close()
    puppet.say(Done(1), QueueBroken(5, "sequence"), QueueBroken(5, "sequence"))
    assert await attached == Done(1)
    await puppet.killed_for("more queues are broken than it ever had")
    assert puppet.broken == [(5, "sequence")]
    _, received = channel.receive(puppet.sock)
    assert len(received) == 3
    for fd in received:
        os.close(fd)


async def test_a_closed_control_socket_is_death_with_the_cause_the_kernel_gives(
    puppet: Puppet,
) -> None:
    worker = await started(puppet)
    pending = worker.detach(1)
    puppet.sock.shutdown(socket.SHUT_RDWR)
    await puppet.killed.wait()
    puppet.exit("exited with status 7")
    with pytest.raises(WorkerDied, match="exited with status 7"):
        await pending
    assert puppet.ends == ["exited with status 7"]


async def test_after_its_end_nothing_it_says_matters(puppet: Puppet) -> None:
    worker = await started(puppet)
    pending = worker.detach(1)
    worker.end(LeaseEnded("a", "released"))
    assert puppet.killed.is_set()
    with pytest.raises(LeaseEnded):
        await pending
    with pytest.raises(LeaseEnded):
        await worker.detach(1)
    puppet.say(Done(1), QueueBroken(1, "x"), Ready(()))
    await asyncio.sleep(0)  # the loop turns to the socket
    await asyncio.sleep(0)
    puppet.exit("killed by signal 9 (SIGKILL)")
    assert puppet.ends == [None]
    assert worker._blame is None


async def test_no_one_has_to_wait_for_an_answer(puppet: Puppet) -> None:
    worker = await started(puppet)
    dropped = worker.detach(1)
    dropped.cancel()
    wanted = worker.detach(2)
    puppet.say(Done(1), Done(2))
    assert await wanted == Done(2)
    assert not puppet.killed.is_set()


async def test_a_request_made_before_ready_leaves_ready_its_time() -> None:
    """One whose caller gave up at once; the answer comes in time, so nothing may be killed later."""
    settings = WorkerSettings(request_timeout=0.01, ready_timeout=60)
    before = open_descriptors()
    puppet = Puppet(settings, forked=False)
    detached = puppet.worker.detach(1)
    puppet.spawned()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(puppet.killed.wait(), 0.05)
    puppet.start()
    puppet.say(Ready(()), Done(1))
    assert await detached == Done(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(puppet.killed.wait(), 0.05)
    puppet.exit("test over")
    puppet.sock.close()
    assert open_descriptors() == before
