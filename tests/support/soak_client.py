"""A client that does at random what clients do, and tells the referee what it believes to hold.

Started by `Soak`, with its seed; SIGTERM has it finish in good order. It ends with 1 and a traceback
when the broker did something that the deaths around it do not explain.
"""

import contextlib
import json
import math
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from furiosa.client.sync import Connection
from furiosa.common.errors import (
    BrokerUnavailable,
    DeviceBusy,
    FuriosaError,
    LeaseEnded,
    UnknownLease,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseView
from furiosa.queuepair import BrokenQueue, ClientQueue, CompletionStatus, Geometry, Submission

RECONNECT_SECONDS = 30.0  # a broker that was killed is started again much sooner
DEATH_SECONDS = 10.0  # of a broker, from when its connections end until it has
GEOMETRY = Geometry(4, 4096)
OUTPUT = 2048  # offset of the program's output in the arena

SPECS = ("npu:0:0", "npu:0:1", "npu:0:0-1", "npu:1", "warboy(1)*1", "warboy(2)*1", "warboy(1)*3")
WAITS = (None, 0.02, 0.5, 3.0, math.inf)
TIMES_TO_LIVE = (None, None, None, 0.2, 1.0)
ENDINGS = ("release",) * 16 + ("hang up", "hang up", "exit", "kill")


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run: the program, its input, and the output that it must give."""

    enf: bytes
    given: bytes
    expected: bytes

    @classmethod
    def read(cls, folder: Path) -> "Trial":
        names = ("enf", "given", "expected")
        return cls(*((folder / name).read_bytes() for name in names))

    def write(self, folder: Path) -> None:
        for name in ("enf", "given", "expected"):
            (folder / name).write_bytes(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, and until when we may believe in it."""

    lease: LeaseView
    until: float

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until


class Client:
    def __init__(self, seed: int, trial: Trial, referee: str) -> None:
        self._random = random.Random(seed)
        self._trial = trial
        self._referee = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._referee.connect(referee)
        self._stopping = False
        self._held: Held | None = None
        self._own = len(os.listdir("/proc/self/fd"))
        self._broker = self._pidfd = -1
        self._connection = self._connect()
        signal.signal(signal.SIGTERM, lambda *_: self._stop())

    def _stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        step = self._once
        while not self._stopping:
            try:
                step()
                step = self._once
            except BrokerUnavailable:
                if not self._broker_died(DEATH_SECONDS):
                    raise  # no connection may end as long as its broker lives
                step = self._come_back
        self._connection.close()
        self._forget_broker()
        left = len(os.listdir("/proc/self/fd"))
        assert left == self._own, f"{left} descriptors are left of connections, not {self._own}"

    def _once(self) -> None:
        spec, limit = self._random.choice(SPECS), self._random.choice(WAITS)
        life = self._random.choice(TIMES_TO_LIVE)
        asked = time.monotonic()
        try:
            lease = self._connection.acquire(DeviceSpec.parse(spec), limit, time_to_live=life)
        except DeviceBusy:
            return
        self._held = Held(lease, asked + (math.inf if life is None else life))
        if not self._claim(self._held):
            self._held = None
            self._hang_up()  # it was taken from us before we could say that we have it
            return
        for _ in range(self._random.randrange(5)):
            action = self._random.choice((self._idle, self._idle, self._work, self._renew))
            with self._may_have_ended(self._held):
                action(self._held)
        self._end(self._held)
        self._held = None

    def _idle(self, held: Held) -> None:
        """Returns early when the broker dies; what else is done with the lease then fails."""
        if self._broker_died(self._random.uniform(0, 0.15)):
            self._connection.leases()

    def _renew(self, held: Held) -> None:
        if held.until < math.inf:
            asked, life = time.monotonic(), self._random.uniform(0.2, 1.0)
            self._connection.renew(held.lease.id, life)
            self._held = Held(held.lease, asked + life)
            self._claim(self._held)
            self._tell("renewed")

    def _work(self, held: Held) -> None:
        """Run the program, if the lease is of a kind that can, and look at what comes out."""
        lease, file = held.lease, held.lease.device_files[0]
        if len(lease.device_files) > 1 or file.cores.is_all or file.cores.width > 1:
            return
        program = self._connection.load_program(lease.id, self._trial.enf)
        with self._queue(lease, file) as queue:
            given = np.frombuffer(self._trial.given, np.uint8)
            queue.arena[: len(given)] = given
            queue.submit(Submission(1, program.id, 0, OUTPUT))
            self._connection.wait([queue.completion_fd], lease.id)
            for completion in queue.reap():
                assert completion.status is CompletionStatus.OK, completion
                output = queue.arena[OUTPUT : OUTPUT + len(self._trial.expected)]
                assert output.tobytes() == self._trial.expected, "a wrong result"
                self._tell("ran")
        self._connection.unload_program(lease.id, program.id)

    @contextlib.contextmanager
    def _queue(self, lease: LeaseView, file: DeviceFile) -> Iterator[ClientQueue]:
        number, descriptors = self._connection.open_queue(lease.id, file, GEOMETRY)
        queue = ClientQueue.attach(descriptors)
        try:
            yield queue
            self._connection.close_queue(lease.id, number)
        finally:
            queue.close()

    def _end(self, held: Held) -> None:
        match self._random.choice(ENDINGS):
            case "release":
                self._tell("drop", lease=held.lease.id)
                with self._may_have_ended(held):
                    self._connection.release(held.lease.id)
            case "hang up":
                self._tell("drop", lease=held.lease.id)
                self._hang_up()
            case "exit":
                os._exit(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def _may_have_ended(self, held: Held) -> Iterator[None]:
        """Calls fail when the lease's time is over or the broker has died, and never otherwise."""
        try:
            yield
        except BrokerUnavailable:
            raise
        except (FuriosaError, BrokenQueue):
            if not held.over and not self._broker_died(0.5):
                raise

    def _hang_up(self) -> None:
        self._connection.close()
        self._connection = self._connect()

    def _come_back(self) -> None:
        """Attach to the next broker, take over what we held, and give all of it back."""
        self._connection.close()
        self._connection = self._connect()
        ours = {lease.id for lease in self._connection.leases() if lease.owner.pid == os.getpid()}
        if self._held is not None:
            self._take_over(self._held, ours)
            self._held = None
        for lease in ours:  # granted in the moment of the broker's death: we never heard of them
            self._give_back(lease)

    def _take_over(self, held: Held, ours: set[str]) -> None:
        lease = held.lease.id
        try:
            self._connection.resume(lease)
        except (LeaseEnded, UnknownLease):
            self._tell("lost", lease=lease)
            return
        ours.discard(lease)
        self._claim(held)
        self._tell("kept")
        self._tell("drop", lease=lease)
        with self._may_have_ended(held):
            self._connection.release(lease)

    def _give_back(self, lease: str) -> None:
        with contextlib.suppress(LeaseEnded, UnknownLease):  # when its time is over
            self._connection.resume(lease)
            self._connection.release(lease)

    def _connect(self) -> Connection:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                connection = Connection.open(client="soak")
                break
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._forget_broker()
        self._broker = broker_of(connection)
        with contextlib.suppress(ProcessLookupError):  # it has died again
            self._pidfd = os.pidfd_open(self._broker)
        return connection

    def _forget_broker(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1

    def _broker_died(self, within: float) -> bool:
        return self._pidfd < 0 or bool(select.select([self._pidfd], [], [], within)[0])

    def _claim(self, held: Held) -> bool:
        cores = [core for file in held.lease.device_files for core in cores_of(file)]
        fields = {"pid": os.getpid(), "broker": self._broker, "until": held.until}
        return self._tell("claim", lease=held.lease.id, cores=cores, **fields) == b"ok"

    def _tell(self, event: str, **fields: Any) -> bytes:
        self._referee.send(json.dumps({"event": event, **fields}).encode())
        return self._referee.recv(64)


def cores_of(file: DeviceFile) -> list[str]:
    cores = (0, 1) if file.cores.is_all else range(file.cores.first, file.cores.last + 1)
    return [f"npu{file.npu}pe{core}" for core in cores]


def broker_of(connection: Connection) -> int:
    """Pid of the broker at the other end of this process's newest connection."""
    handoff = f"{connection.grpc_target.removeprefix('unix:')}.handoff"
    pids = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(fd))) as sock:
                    if sock.getpeername() == handoff:
                        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                        pids.append(struct.unpack("3i", credentials)[0])
    (pid,) = pids
    return int(pid)


def main() -> None:
    seed, folder, referee = sys.argv[1:]
    Client(int(seed), Trial.read(Path(folder)), referee).run()
