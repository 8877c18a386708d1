"""How a connection begins: welcomes, refusals, and where the broker is."""

import threading

import pytest

from furiosa.client.address import UnixAddress
from furiosa.client.sync import Connection
from furiosa.common.errors import (
    BadArgument,
    BrokerUnavailable,
)
from furiosa.common.views import (
    Origin,
)
from furiosa.proto.broker.v1 import handoff_pb2
from support.fake_broker import TOKEN, FakeBroker, Peer


def test_welcome_is_told(broker: FakeBroker) -> None:
    with Connection.open(broker.address, client="furiosa-test/1") as connection:
        assert connection.origin is Origin.EMULATED
        assert connection.broker_version == "0.0.0"
        assert connection.session_token == TOKEN
        assert connection.grpc_target == "unix:/nowhere"
        assert connection.data_target == ""
    assert broker.hellos == ["furiosa-test/1"]


def test_main_thread_arms_the_death_notice_with_its_own_number(broker: FakeBroker) -> None:
    Connection.open(broker.address, client="t").close()
    request = handoff_pb2.ArmDeathNoticeRequest.FromString(
        broker.requests["Session/ArmDeathNotice"]
    )
    assert request.thread_id == threading.get_native_id()


def test_other_threads_arm_nothing(broker: FakeBroker) -> None:
    thread = threading.Thread(target=lambda: Connection.open(broker.address, client="t").close())
    thread.start()
    thread.join()
    assert broker.calls["hello"] == 1
    assert broker.calls["Session/ArmDeathNotice"] == 0


def test_broker_without_death_notices_will_do(broker: FakeBroker) -> None:
    broker.handlers["Session/ArmDeathNotice"] = lambda peer, request, fds: peer.fail(
        BadArgument("method", "Session/ArmDeathNotice", "a known one")
    )
    Connection.open(broker.address, client="t").close()


def test_refusal_is_raised_as_what_the_broker_said(broker: FakeBroker) -> None:
    broker.greet = lambda peer: peer.fail(BadArgument("the peer", "a ghost", "a live process"))
    with pytest.raises(BadArgument, match="the peer is a ghost"):
        Connection.open(broker.address, client="t")


def test_refusal_before_the_hello_is_read_too(broker: FakeBroker) -> None:
    def greet(peer: Peer) -> None:
        peer.fail(BadArgument("the peer", "a ghost", "a live process"))
        peer.hang_up()

    broker.greet = greet
    with pytest.raises(BadArgument, match="the peer is a ghost"):
        Connection.open(broker.address, client="t")


def test_nobody_at_the_address(broker: FakeBroker) -> None:
    address = UnixAddress(broker.path + "x")
    with pytest.raises(BrokerUnavailable, match=f"no broker at {address}: No such file"):
        Connection.open(address, client="t")


def test_environment_says_where(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FURIOSA_BROKER", broker.path)
    Connection.open(client="from the environment").close()
    assert broker.hellos == ["from the environment"]


def test_welcome_of_an_unknown_origin_is_refused(broker: FakeBroker) -> None:
    broker.welcome.origin = 0  # type: ignore[assignment]  # UNSPECIFIED
    with pytest.raises(BrokerUnavailable, match="its welcome makes no sense"):
        Connection.open(broker.address, client="t")
