"""Terms of leases, renewing, resuming, handing over, and the device node."""

import math
import os

import pytest

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.errors import BadArgument, BrokerUnavailable, LeaseEnded, NotLeaseOwner
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import (
    LeaseOverview,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
    OwnerView,
    WaiterView,
)
from furiosa.proto.broker.v1 import handoff_pb2, leases_pb2
from support.fake_broker import FakeBroker, Handler, Peer, replies

PE0 = DeviceFile(0, CoreRange(0, 0))
SPEC = DeviceSpec.parse("npu0pe0")
OWNER = OwnerView(7, 1, 2, 3, "x")
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OWNER, 5.5, "uid:1", 2, 9.5)
MESSAGE = wire.lease_to_wire(LEASE)
SECRET = "5e" * 32


def granted(secret: str = "") -> Handler:
    return replies(leases_pb2.AcquireResponse(lease=MESSAGE, secret=secret))


def acquired_with(broker: FakeBroker) -> leases_pb2.AcquireRequest:
    return leases_pb2.AcquireRequest.FromString(broker.requests["Leases/Acquire"])


def test_terms_travel(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Acquire"] = granted()
    assert connection.acquire(SPEC, time_to_live=60, linger=2.5, priority=-3) == LEASE
    request = acquired_with(broker)
    assert request.time_to_live.ToMilliseconds() == 60_000
    assert request.linger.ToMilliseconds() == 2_500
    assert request.priority == -3


def test_terms_that_were_not_given_are_absent(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Acquire"] = granted()
    connection.acquire(SPEC)
    request = acquired_with(broker)
    assert [field.name for field, _ in request.ListFields()] == ["device_spec"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_to_live", -1.0), ("linger", math.nan), ("priority", 2**31)],
)
def test_terms_out_of_their_bounds_are_refused_by_name(
    broker: FakeBroker, connection: Connection, name: str, value: float
) -> None:
    with pytest.raises(BadArgument, match=name):
        connection.acquire(SPEC, **{name: value})  # type: ignore[arg-type]  # by name
    assert broker.calls["Leases/Acquire"] == 0


def test_the_secret_of_a_lease_is_known_while_it_is_held(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/Acquire"] = granted(SECRET)
    broker.handlers["Leases/Release"] = replies(leases_pb2.ReleaseResponse())
    assert connection.secret("a1") == ""
    lease = connection.acquire(SPEC, linger=10)
    assert connection.secret("a1") == SECRET
    assert SECRET not in repr(lease)
    connection.release("a1")
    assert connection.secret("a1") == ""


def test_renew(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Renew"] = replies(leases_pb2.RenewResponse(lease=MESSAGE))
    assert connection.renew("a1") == LEASE
    request = leases_pb2.RenewRequest.FromString(broker.requests["Leases/Renew"])
    assert (request.lease_id, request.HasField("time_to_live")) == ("a1", False)
    connection.renew("a1", 1.5)
    request = leases_pb2.RenewRequest.FromString(broker.requests["Leases/Renew"])
    assert request.time_to_live.ToMilliseconds() == 1_500
    broker.handlers["Leases/Renew"] = lambda peer, _, fds: peer.fail(LeaseEnded("a1", "expired"))
    with pytest.raises(LeaseEnded, match="expired"):
        connection.renew("a1")


def test_resume_by_secret_keeps_it(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Resume"] = replies(leases_pb2.ResumeResponse(lease=MESSAGE))
    assert connection.resume("a1", SECRET) == LEASE
    request = leases_pb2.ResumeRequest.FromString(broker.requests["Leases/Resume"])
    assert (request.lease_id, request.secret) == ("a1", SECRET)
    assert connection.secret("a1") == SECRET


def test_a_wrong_secret_is_not_kept(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Resume"] = lambda peer, _, fds: peer.fail(NotLeaseOwner("a1", 7))
    with pytest.raises(NotLeaseOwner):
        connection.resume("a1", SECRET)
    assert connection.secret("a1") == ""


def test_who_handed_a_lease_over_forgets_it(broker: FakeBroker, connection: Connection) -> None:
    def transfer(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.notify(LeaseRecalledNotice("a1", "maintenance", 3.0, LeaseState.RECALLED))
        peer.reply(leases_pb2.TransferResponse(lease=MESSAGE))

    broker.handlers["Leases/Acquire"] = granted(SECRET)
    broker.handlers["Leases/Transfer"] = transfer
    connection.acquire(SPEC, linger=10)
    assert connection.transfer("a1", 4711) == LEASE
    request = leases_pb2.TransferRequest.FromString(broker.requests["Leases/Transfer"])
    assert (request.lease_id, request.pid) == ("a1", 4711)
    assert connection.secret("a1") == ""
    assert connection.take_notices("a1") == []
    with pytest.raises(BadArgument, match="pid"):
        connection.transfer("a1", 0)


def test_overview(broker: FakeBroker, connection: Connection) -> None:
    waiter = WaiterView(1, "warboy*1", "uid:1", 0, OWNER, 4.0, None, "npu0pe0 is held", 6)
    overview = LeaseOverview((LEASE,), (waiter,), 12)
    broker.handlers["Leases/List"] = replies(wire.overview_to_wire(overview))
    assert connection.overview() == overview
    assert connection.leases() == (LEASE,)


def test_the_device_node_is_the_callers(broker: FakeBroker, connection: Connection) -> None:
    reading, writing = os.pipe()
    broker.handlers["Session/OpenDevice"] = lambda peer, request, fds: peer.reply(
        handoff_pb2.OpenDeviceResponse(), (writing,)
    )
    fd = connection.open_device("a1", PE0)
    os.write(fd, b"x")
    assert os.read(reading, 1) == b"x"
    assert not os.get_inheritable(fd)
    for number in (fd, reading, writing):
        os.close(number)
    request = handoff_pb2.OpenDeviceRequest.FromString(broker.requests["Session/OpenDevice"])
    assert (request.lease_id, request.device_file) == ("a1", "npu0pe0")


def test_an_answer_that_makes_no_sense_leaves_no_descriptor(
    broker: FakeBroker, connection: Connection
) -> None:
    def open_device(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        reply = handoff_pb2.Reply(response=b"\xff")
        peer.send(handoff_pb2.Frame(id=peer.id, reply=reply), (0,))

    broker.handlers["Session/OpenDevice"] = open_device
    with pytest.raises(BrokerUnavailable, match="OpenDevice makes no sense"):
        connection.open_device("a1", PE0)


def test_a_recall_is_a_notice_of_the_lease(broker: FakeBroker, connection: Connection) -> None:
    recalled = LeaseRecalledNotice("a1", "its time to live is over", 2.5, LeaseState.EXPIRING)

    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.notify(recalled)
        peer.reply(leases_pb2.ListLeasesResponse())

    broker.handlers["Leases/List"] = listing
    connection.leases()
    assert connection.take_notices("a1") == [recalled]
