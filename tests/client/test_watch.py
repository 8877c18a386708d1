"""Streams of states: which ones are seen, and what is left when they are not wanted any more."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from furiosa.client.snapshot import Snapshot
from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.errors import BrokerDraining, BrokerUnavailable
from furiosa.common.names import CoreRange, DeviceFile
from furiosa.common.views import LeaseOverview, LeaseState, LeaseView, OwnerView, ProcessView
from furiosa.proto.broker.v1 import devices_pb2, leases_pb2
from support.fake_broker import FakeBroker, Handler, Peer
from support.shown_devices import a_device

PE0 = DeviceFile(0, CoreRange(0, 0))
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OwnerView(7, 1, 2, 3, "x"), 5.5)


def state(revision: int) -> leases_pb2.WatchLeasesResponse:
    return leases_pb2.WatchLeasesResponse(revision=revision)


def states(*revisions: int, then: Callable[[Peer], None] = lambda peer: None) -> Handler:
    def handler(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        for revision in revisions:
            peer.reply(state(revision))
        then(peer)

    return handler


def listing(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
    peer.reply(leases_pb2.ListLeasesResponse())


@pytest.fixture
def streams(broker: FakeBroker) -> list[Peer]:
    """Watches of leases that the test answers, as they arrive."""
    peers: list[Peer] = []
    broker.handlers["Leases/Watch"] = lambda peer, request, fds: peers.append(replace(peer))
    broker.handlers["Leases/List"] = listing
    return peers


def test_every_state_that_is_waited_for_is_seen(
    broker: FakeBroker, connection: Connection, streams: list[Peer]
) -> None:
    watch = connection.watch_leases(41)
    connection.leases()  # so that the broker has seen the watch
    (peer,) = streams
    seen = []
    peer.reply(leases_pb2.WatchLeasesResponse(revision=42, leases=[wire.lease_to_wire(LEASE)]))
    for overview in watch:
        seen.append(overview)
        if overview.revision == 44:
            peer.end()
        else:
            peer.reply(state(overview.revision + 1))
    assert seen == [
        LeaseOverview((LEASE,), (), 42), LeaseOverview((), (), 43), LeaseOverview((), (), 44),
    ]  # fmt: skip
    request = leases_pb2.WatchLeasesRequest.FromString(broker.requests["Leases/Watch"])
    assert request.after_revision == 41
    assert list(watch) == []
    watch.close()
    assert connection.leases() == ()
    assert broker.calls["cancel"] == 0


def test_only_the_newest_state_is_kept_for_who_does_not_look(
    connection: Connection, streams: list[Peer]
) -> None:
    watch = connection.watch_leases()
    connection.leases()
    for revision in range(1, 101):
        streams[0].reply(state(revision))
    connection.leases()
    assert next(watch).revision == 100
    streams[0].reply(state(101))
    assert next(watch).revision == 101


def test_the_last_state_is_seen_before_the_failure(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/Watch"] = states(5, then=lambda peer: peer.fail(BrokerDraining()))
    broker.handlers["Leases/List"] = listing
    watch = connection.watch_leases()
    connection.leases()
    assert next(watch).revision == 5
    with pytest.raises(BrokerDraining):
        next(watch)
    assert list(watch) == []


def test_a_broker_that_dies_ends_it_by_name(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Watch"] = states(5, then=Peer.hang_up)
    watch = connection.watch_leases()
    assert next(watch).revision == 5
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        next(watch)
    with pytest.raises(BrokerUnavailable, match="it closed the connection"):
        connection.watch_leases()


def leave_the_loop(connection: Connection) -> None:
    for _ in connection.watch_leases():
        break


def leave_the_block(connection: Connection) -> None:
    with connection.watch_leases() as watch:
        next(watch)


def close_twice(connection: Connection) -> None:
    watch = connection.watch_leases()
    watch.close()
    watch.close()
    assert list(watch) == []


def let_go_while_the_session_is_locked(connection: Connection) -> None:
    watch = connection.watch_leases()
    with connection._session._lock:  # where the garbage collector may come
        del watch


LEAVE = [leave_the_loop, leave_the_block, close_twice, let_go_while_the_session_is_locked]


@pytest.mark.parametrize("leave", LEAVE)
def test_whoever_leaves_it_cancels_it_once(
    broker: FakeBroker, connection: Connection, leave: Callable[[Connection], None]
) -> None:
    broker.handlers["Leases/Watch"] = states(1, 2, 3)
    broker.handlers["Leases/List"] = listing
    leave(connection)
    assert connection.leases() == ()
    broker.seen("cancel")
    assert connection.leases() == ()  # states that came late did no harm
    assert broker.calls["cancel"] == 1


def test_watches_and_calls_share_a_connection(
    broker: FakeBroker, connection: Connection, streams: list[Peer]
) -> None:
    first, second = connection.watch_leases(), connection.watch_leases()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(next, watch) for watch in (first, second)]
        connection.leases()
        streams[1].reply(state(2))
        assert waiting[1].result(timeout=20).revision == 2
        assert not waiting[0].done()
        streams[0].reply(state(1))
        assert waiting[0].result(timeout=20).revision == 1


def test_two_may_not_wait_for_the_next_state_of_one_watch(
    connection: Connection, streams: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = connection.watch_leases()
    entered = threading.Event()
    real = connection._session.take

    def take(*arguments: object) -> bytes | None:
        entered.set()
        return real(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(connection._session, "take", take)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, watch)
        assert entered.wait(20)
        with pytest.raises(RuntimeError, match="somebody else is waiting"):
            next(watch)
        connection.leases()
        streams[0].reply(state(1))
        assert waiting.result(timeout=20).revision == 1


def test_a_state_that_makes_no_sense_ends_the_session(
    broker: FakeBroker, connection: Connection
) -> None:
    message = wire.lease_to_wire(LEASE)
    message.state = 77  # type: ignore[assignment]  # no such state
    broker.handlers["Leases/Watch"] = lambda peer, request, fds: peer.reply(
        leases_pb2.WatchLeasesResponse(leases=[message])
    )
    with pytest.raises(BrokerUnavailable, match="Leases/Watch makes no sense: 77"):
        next(connection.watch_leases())


def test_descriptors_with_a_state_are_closed_and_end_the_session(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Leases/Watch"] = lambda peer, request, fds: peer.reply(state(1), (0, 1))
    with pytest.raises(BrokerUnavailable, match="unexpected reply"):
        next(connection.watch_leases())


def test_devices_and_processes_can_be_watched(broker: FakeBroker, connection: Connection) -> None:
    device, process = a_device(0), ProcessView(PE0, 0, "x y", "a1", "host:7")
    broker.handlers["Devices/Watch"] = lambda peer, request, fds: peer.reply(
        devices_pb2.WatchDevicesResponse(revision=3, devices=[wire.device_to_wire(device)])
    )
    broker.handlers["Devices/WatchProcesses"] = lambda peer, request, fds: peer.reply(
        devices_pb2.WatchProcessesResponse(revision=4, processes=[wire.process_to_wire(process)])
    )
    assert next(connection.watch_devices(2)) == Snapshot(3, (device,))
    assert next(connection.watch_processes(3)) == Snapshot(4, (process,))
    devices = devices_pb2.WatchDevicesRequest.FromString(broker.requests["Devices/Watch"])
    processes = devices_pb2.WatchProcessesRequest.FromString(
        broker.requests["Devices/WatchProcesses"]
    )
    assert (devices.after_revision, processes.after_revision) == (2, 3)
