"""Notices that arrive unasked: kept, taken and dropped."""

import os

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import (
    LeaseEndedNotice,
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import handoff_pb2, leases_pb2
from support.fake_broker import FakeBroker, Peer

PE0 = DeviceFile(0, CoreRange(0, 0))


DIED = WorkerDiedNotice("a1", PE0, "killed by signal 9")
ENDED = LeaseEndedNotice("b2", "the broker is shutting down")


def test_notices_are_kept_by_lease_until_they_are_taken(
    broker: FakeBroker, connection: Connection
) -> None:
    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        for notice in (DIED, ENDED, DIED):
            peer.send(handoff_pb2.Frame(notice=wire.notice_to_wire(notice)))
        peer.reply(leases_pb2.ListLeasesResponse())

    broker.handlers["Leases/List"] = listing
    assert connection.take_notices("a1") == []
    connection.leases()
    connection.wait((), "a1")
    assert connection.take_notices("a1") == [DIED, DIED]
    assert connection.take_notices("a1") == []
    connection.wait(())
    assert connection.take_notices("b2") == [ENDED]


def test_notice_is_seen_although_nobody_waits(broker: FakeBroker, connection: Connection) -> None:
    peers: list[Peer] = []

    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.reply(leases_pb2.ListLeasesResponse())
        peers.append(peer)

    broker.handlers["Leases/List"] = listing
    connection.leases()
    connection.leases()  # so that the handler of the first has ended
    peers[0].send(handoff_pb2.Frame(notice=wire.notice_to_wire(DIED)))
    assert connection.take_notices("a1") == [DIED]


def test_notices_of_a_released_lease_are_dropped(
    broker: FakeBroker, connection: Connection
) -> None:
    def release(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.send(handoff_pb2.Frame(notice=wire.notice_to_wire(DIED)))
        peer.reply(leases_pb2.ReleaseResponse())

    broker.handlers["Leases/Release"] = release
    connection.release("a1")
    assert connection.take_notices("a1") == []


def test_notices_that_nobody_takes_are_bounded(broker: FakeBroker, connection: Connection) -> None:
    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        for number in range(100):
            notice = LeaseEndedNotice("b2", str(number))
            peer.send(handoff_pb2.Frame(notice=wire.notice_to_wire(notice)))
        peer.reply(leases_pb2.ListLeasesResponse())

    broker.handlers["Leases/List"] = listing
    connection.leases()
    kept = connection.take_notices("b2")
    assert [notice.cause for notice in kept] == [str(number) for number in range(36, 100)]


def test_it_is_quiet_until_something_arrives_and_is_taken(
    broker: FakeBroker, connection: Connection
) -> None:
    peers: list[Peer] = []

    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.reply(leases_pb2.ListLeasesResponse())
        peers.append(peer)

    broker.handlers["Leases/List"] = listing
    connection.leases()
    connection.leases()  # so that the handler of the first has ended
    assert connection.is_quiet("a1")
    peers[0].send(handoff_pb2.Frame(notice=wire.notice_to_wire(DIED)))
    assert not connection.is_quiet("a1")
    assert not connection.is_quiet("b2"), "nobody knows yet what it is"
    assert connection.take_notices("b2") == []
    assert connection.is_quiet("b2")
    assert not connection.is_quiet("a1"), "it is kept"
    assert connection.take_notices("a1") == [DIED]
    assert connection.is_quiet("a1")


def test_it_is_never_quiet_after_the_end(broker: FakeBroker, connection: Connection) -> None:
    connection.close()
    assert not connection.is_quiet("a1")


def test_it_is_never_quiet_in_a_forked_child(connection: Connection) -> None:
    assert connection.is_quiet("a1")
    pid = os.fork()
    if pid == 0:
        os._exit(int(connection.is_quiet("a1")))
    assert os.waitpid(pid, 0)[1] == 0
