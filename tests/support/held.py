"""A fake broker that keeps count of what its clients hold, and helpers for tasks that talk to it."""

import anyio
import anyio.lowlevel

from furiosa.client import Connection
from furiosa.common import wire
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import (
    LeaseState,
    LeaseView,
    OwnerView,
    ProgramView,
    UtilizationView,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2
from support.fake_broker import FakeBroker, Peer

PE0 = DeviceFile(0, CoreRange(0, 0))


def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    peer.reply(leases_pb2.ListLeasesResponse())


def echo(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    """Answers with the window that was asked for, as a pid."""
    window = devices_pb2.UtilizationRequest.FromString(request).window_ms
    use = UtilizationView(PE0, 0, 0.0, 0.0, 0.0, window, "", 0)
    message = devices_pb2.UtilizationResponse(utilizations=[wire.utilization_to_wire(use)])
    peer.reply(message)


class Held:
    """What clients hold of a broker that finishes every call, also one that has been cancelled."""

    def __init__(self) -> None:
        self.leases: set[str] = set()
        self.programs: set[int] = set()
        self.queues: set[int] = set()
        self.streams: set[int] = set()
        self._count = 0

    def next(self) -> int:
        self._count += 1
        return self._count

    def acquire(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        lease_id = f"lease-{self.next()}"
        self.leases.add(lease_id)
        owner = OwnerView(7, 1, 2, 3, "x")
        lease = LeaseView(lease_id, (PE0,), LeaseState.GRANTED, owner, 5.5)
        peer.reply(leases_pb2.AcquireResponse(lease=wire.lease_to_wire(lease)))

    def release(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.leases.remove(leases_pb2.ReleaseRequest.FromString(request).lease_id)
        peer.reply(leases_pb2.ReleaseResponse())

    def watch(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.streams.add(peer.id)
        peer.reply(leases_pb2.WatchLeasesResponse(revision=1))

    def cancel(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.streams.discard(peer.id)

    def load(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        program = ProgramView(self.next(), "a1", "warboy", (), (), 3)
        self.programs.add(program.id)
        peer.reply(programs_pb2.LoadProgramResponse(program=wire.program_to_wire(program)))

    def unload(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.programs.remove(programs_pb2.UnloadProgramRequest.FromString(request).program_id)
        peer.reply(programs_pb2.UnloadProgramResponse())

    def open_queue(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        queue_id = self.next()
        self.queues.add(queue_id)
        peer.reply(handoff_pb2.OpenQueueResponse(queue_id=queue_id), (0, 1, 2))

    def close_queue(self, peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        self.queues.remove(handoff_pb2.CloseQueueRequest.FromString(request).queue_id)
        peer.reply(handoff_pb2.CloseQueueResponse())


async def seen(broker: FakeBroker, name: str, count: int = 1) -> None:
    await anyio.to_thread.run_sync(broker.seen, name, count)


async def ask(connection: Connection, number: int) -> int:
    (use,) = await connection.utilization(number)
    return use.pid
