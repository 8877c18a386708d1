"""What an administrator asks for."""

from collections.abc import Callable

import pytest

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.errors import BadArgument, NotAllowed
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import LeaseState, LeaseView, OwnerView
from furiosa.proto.broker.v1 import admin_pb2 as pb
from support.fake_broker import FakeBroker, replies

OWNER = OwnerView(7, 1, 2, 3, "x")
LEASE = LeaseView("a1", (DeviceFile(0, CoreRange(0, 0)),), LeaseState.RECALLED, OWNER, 5.5)


def test_revoke(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Revoke"] = replies(pb.RevokeResponse(lease=wire.lease_to_wire(LEASE)))
    assert connection.revoke("a1", 0.5, "maintenance") == LEASE
    request = pb.RevokeRequest.FromString(broker.requests["Admin/Revoke"])
    assert (request.lease_id, request.reason) == ("a1", "maintenance")
    assert request.grace.ToMilliseconds() == 500
    connection.revoke("a1")
    assert not pb.RevokeRequest.FromString(broker.requests["Admin/Revoke"]).HasField("grace")


def test_no_grace_at_all_is_not_the_brokers_own(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Revoke"] = replies(pb.RevokeResponse(lease=wire.lease_to_wire(LEASE)))
    connection.revoke("a1", 0)
    assert pb.RevokeRequest.FromString(broker.requests["Admin/Revoke"]).HasField("grace")


def test_cordon_and_uncordon(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Cordon"] = replies(pb.CordonResponse())
    broker.handlers["Admin/Uncordon"] = replies(pb.UncordonResponse())
    connection.cordon(3, "fan")
    connection.uncordon(4)
    cordon = pb.CordonRequest.FromString(broker.requests["Admin/Cordon"])
    assert (cordon.npu, cordon.reason) == (3, "fan")
    assert pb.UncordonRequest.FromString(broker.requests["Admin/Uncordon"]).npu == 4


def test_drain_says_how_many_leases_it_took(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Drain"] = replies(pb.DrainResponse(revoked=2))
    assert connection.drain(3, 1.0, "fan") == 2
    request = pb.DrainRequest.FromString(broker.requests["Admin/Drain"])
    assert (request.npu, request.grace.ToMilliseconds(), request.reason) == (3, 1000, "fan")


@pytest.mark.parametrize(("grace", "seconds"), [(120.0, 130.0), (None, 3610.0)])
def test_drain_is_waited_for_as_long_as_its_grace(
    broker: FakeBroker,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    grace: float | None,
    seconds: float,
) -> None:
    asked: list[object] = []

    def call(*arguments: object, **_: object) -> tuple[bytes, tuple[int, ...]]:
        asked.extend(arguments)
        return b"", ()

    monkeypatch.setattr(connection._session, "call", call)
    connection.drain(3, grace)
    assert asked[2] == seconds


def test_tenants_are_read_again(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Reload"] = replies(pb.ReloadResponse(tenants="/etc/tenants.toml"))
    assert connection.reload_tenants() == "/etc/tenants.toml"


def test_others_may_not(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Admin/Drain"] = lambda peer, request, fds: peer.fail(
        NotAllowed("uid:1000", "administer the broker")
    )
    with pytest.raises(NotAllowed, match="uid:1000 may not administer"):
        connection.drain(0)


@pytest.mark.parametrize(
    "act",
    [
        lambda connection: connection.cordon(-1),
        lambda connection: connection.drain(0, -1.0),
        lambda connection: connection.revoke("a1", float("nan")),
    ],
)
def test_nonsense_is_refused_before_anything_is_sent(
    broker: FakeBroker, connection: Connection, act: Callable[[Connection], object]
) -> None:
    with pytest.raises(BadArgument):
        act(connection)
    assert (
        sum(broker.calls.values()) == broker.calls["hello"] + broker.calls["Session/ArmDeathNotice"]
    )
