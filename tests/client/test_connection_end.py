"""A broker that is gone, silent or out of its mind; closed connections; forked children."""

import os
from collections.abc import Callable

import pytest

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.channel import HEADER, encode
from furiosa.common.errors import (
    BrokerUnavailable,
    LeaseEnded,
)
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import (
    LeaseEndedNotice,
    LeaseState,
    LeaseView,
    OwnerView,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2
from support.fake_broker import FakeBroker, Peer, replies

PE0 = DeviceFile(0, CoreRange(0, 0))
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OwnerView(7, 1, 2, 3, "x"), 5.5)


# a broker that is gone, silent or out of its mind


def test_broker_that_dies_during_a_call(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/List"] = lambda peer, request, fds: broker.die()
    for _ in range(2):  # the call underway, and every later one
        with pytest.raises(BrokerUnavailable, match="it closed the connection"):
            connection.leases()
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        connection.wait(())
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        connection.load_program("a1", b"enf")
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        connection.take_notices("a1")


def test_broker_that_died_between_calls(broker: FakeBroker, connection: Connection) -> None:
    broker.die()
    with pytest.raises(BrokerUnavailable):
        connection.leases()


def test_last_words_are_read_before_the_end(broker: FakeBroker, connection: Connection) -> None:
    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.fail(LeaseEnded("a1", "revoked"))
        peer.hang_up()

    broker.handlers["Leases/List"] = listing
    with pytest.raises(LeaseEnded, match="revoked"):
        connection.leases()
    with pytest.raises(BrokerUnavailable):
        connection.leases()


def test_silent_broker_is_given_up_on_by_name(
    broker: FakeBroker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.handlers["Devices/List"] = replies(devices_pb2.ListDevicesResponse())
    with pytest.raises(BrokerUnavailable) as caught:
        connection._session.call("Leases/Release", leases_pb2.ReleaseRequest(), 0.05)
    assert caught.value.cause == "no answer within 0.05 s to Leases/Release"
    broker.seen("cancel")
    assert connection.devices() == ()  # and is heard again when it speaks


def frame(**body: object) -> bytes:
    return encode(handoff_pb2.Frame(**body).SerializeToString())  # type: ignore[arg-type]  # by name


NONSENSE = {
    "not a frame": encode(b"\xff\xff\xff"),
    "an empty frame": encode(b""),
    "a frame too large": HEADER.pack(1 << 30, 0),
    "descriptors that never come": HEADER.pack(0, 2),
    "an answer to no call": frame(id=999, reply=handoff_pb2.Reply()),
    "a call": frame(id=1, call=handoff_pb2.Call()),
    "a notice of nothing": frame(notice=handoff_pb2.Notice()),
    "an end to a call that is not a stream": frame(id=2, end=handoff_pb2.End()),
    "a welcome to a call": frame(id=2, welcome=handoff_pb2.Welcome()),
    "a failure of nothing": frame(failure=handoff_pb2.Failure()),
    "a response that is none": frame(id=2, reply=handoff_pb2.Reply(response=b"\xff")),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_from_the_broker_ends_the_session_by_name(
    broker: FakeBroker, connection: Connection, nonsense: bytes
) -> None:
    broker.handlers["Leases/List"] = lambda peer, request, fds: peer.send_bytes(nonsense)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=r"announced|at most|it sent|no sense"):
            connection.leases()
    broker.seen("Leases/List")
    assert broker.calls["Leases/List"] == 1


def test_value_that_no_version_knows_is_nonsense_too(
    broker: FakeBroker, connection: Connection
) -> None:
    message = wire.lease_to_wire(LEASE)
    message.state = 77  # type: ignore[assignment]  # no such state
    broker.handlers["Leases/List"] = replies(leases_pb2.ListLeasesResponse(leases=[message]))
    with pytest.raises(BrokerUnavailable, match="Leases/List makes no sense: 77"):
        connection.leases()


def test_descriptors_that_nobody_asked_for_are_closed(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/List"] = lambda peer, request, fds: peer.reply(
        leases_pb2.ListLeasesResponse(), (0, 1)
    )
    with pytest.raises(BrokerUnavailable, match="2 descriptors, not 0"):
        connection.leases()


# the next one


def test_reopened_it_is_the_same_broker_whatever_the_environment_says(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.handlers["Leases/List"] = replies(leases_pb2.ListLeasesResponse())
    monkeypatch.setenv("FURIOSA_BROKER", str(broker.address))
    with Connection.open(client="first") as first:
        monkeypatch.setenv("FURIOSA_BROKER", "unix:/nowhere")
        with first.reopen(client="second") as second, second.reopen(client="third") as third:
            first.close()
            assert second.leases() == third.leases() == ()
    assert broker.hellos == ["first", "second", "third"]


def test_it_cannot_be_reopened_while_there_is_none(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.die()
    with pytest.raises(BrokerUnavailable, match=str(broker.address)):
        connection.reopen(client="t")


def test_last_notices_are_taken_before_the_end(broker: FakeBroker, connection: Connection) -> None:
    ended = LeaseEndedNotice("a1", "over")

    def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        peer.notify(ended)
        peer.hang_up()

    broker.handlers["Leases/List"] = listing
    with pytest.raises(BrokerUnavailable):
        connection.leases()
    assert connection.take_notices("a1") == [ended]
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        connection.take_notices("a1")


# the end


def test_closed_connection_says_so(broker: FakeBroker) -> None:
    connection = Connection.open(broker.address, client="t")
    connection.close()
    connection.close()
    with pytest.raises(BrokerUnavailable, match="this connection was closed"):
        connection.leases()


def in_child(act: Callable[[], str]) -> str:
    """What `act` returns in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, act().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    assert os.waitpid(pid, 0) == (pid, 0)
    return said


# the fake broker is a thread; the child touches nothing of it
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@FORKS
def test_forked_child_cannot_use_the_connection_and_does_no_harm(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/List"] = replies(leases_pb2.ListLeasesResponse())

    def act() -> str:
        said = []
        for attempt in (
            connection.leases,
            lambda: connection.wait(()),
            lambda: connection.take_notices("a1"),
            lambda: connection.load_program("a1", b"enf"),
        ):
            try:
                attempt()
            except BrokerUnavailable as exc:
                said.append(exc.cause)
        connection.close()
        return "\n".join(said)

    expected = f"belongs to process {os.getpid()}; a forked child opens its own"
    assert in_child(act).count(expected) == 4
    assert connection.leases() == ()  # the child's close did not end the parent's session


@FORKS
def test_forked_child_opens_its_own(broker: FakeBroker) -> None:
    broker.handlers["Leases/List"] = replies(leases_pb2.ListLeasesResponse())
    with Connection.open(broker.address, client="parent"):

        def act() -> str:
            with Connection.open(broker.address, client="child") as own:
                return str(own.leases())

        assert in_child(act) == "()"
    assert broker.hellos == ["parent", "child"]
