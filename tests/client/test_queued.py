"""Where a request waits in the queue: told to the caller that waits, and to nobody else."""

import math
import threading

import pytest

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState, LeaseView, OwnerView, QueuedNotice
from furiosa.proto.broker.v1 import leases_pb2
from support.fake_broker import FakeBroker, Peer, replies
from support.held import Held

PE0 = DeviceFile(0, CoreRange(0, 0))
SPEC = DeviceSpec.parse("npu0pe0")
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OwnerView(7, 1, 2, 3, "x"), 5.5)
GRANTED = leases_pb2.AcquireResponse(lease=wire.lease_to_wire(LEASE))


def queue_notices(broker: FakeBroker) -> int:
    request = leases_pb2.AcquireRequest.FromString(broker.requests["Leases/Acquire"])
    return request.queue_notices


def test_the_one_who_waits_hears_of_every_place(broker: FakeBroker, connection: Connection) -> None:
    heard: list[QueuedNotice] = []
    told = threading.Semaphore(0)

    def acquire(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        for place in (3, 2, 1):
            peer.notify(QueuedNotice(peer.id, place, "npu0pe0 is held"))
            assert told.acquire(timeout=20)
        peer.reply(GRANTED)

    def hear(notice: QueuedNotice) -> None:
        assert threading.current_thread() is threading.main_thread()
        heard.append(notice)
        told.release()

    broker.handlers["Leases/Acquire"] = acquire
    assert connection.acquire(SPEC, math.inf, on_queued=hear) == LEASE
    assert [notice.position for notice in heard] == [3, 2, 1]
    assert {notice.reason for notice in heard} == {"npu0pe0 is held"}
    assert queue_notices(broker) == leases_pb2.QUEUE_NOTICES_ON_CHANGE
    assert connection.take_notices("a1") == []


def test_who_does_not_want_to_hear_does_not_ask_for_it(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/Acquire"] = replies(GRANTED)
    connection.acquire(SPEC, 1.0)
    assert queue_notices(broker) == leases_pb2.QUEUE_NOTICES_UNSPECIFIED


def test_a_place_of_nobodys_request_is_ignored(broker: FakeBroker, connection: Connection) -> None:
    heard: list[QueuedNotice] = []

    def acquire(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.notify(QueuedNotice(peer.id + 7, 3, "another's"))
        peer.reply(GRANTED)

    broker.handlers["Leases/Acquire"] = acquire
    connection.acquire(SPEC, on_queued=heard.append)
    assert heard == []


def test_a_callback_that_fails_ends_the_wait_and_leaves_no_lease(
    broker: FakeBroker, connection: Connection
) -> None:
    held = Held()

    def give_up(notice: QueuedNotice) -> None:
        raise LookupError(notice.reason)

    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: peer.notify(
        QueuedNotice(peer.id, 9, "too long a queue")
    )
    broker.handlers["cancel"] = held.acquire  # it did not see the cancellation coming
    broker.handlers["Leases/List"] = replies(leases_pb2.ListLeasesResponse())
    broker.handlers["Leases/Release"] = held.release
    with pytest.raises(LookupError, match="too long a queue"):
        connection.acquire(SPEC, math.inf, on_queued=give_up)
    assert broker.calls["cancel"] == 1
    assert not held.leases
