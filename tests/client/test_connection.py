"""The calls of a connection: what is asked, what comes back, and what a bad answer does."""

import fcntl
import math
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from furiosa.client.address import TcpAddress, UnixAddress
from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.channel import HEADER, encode
from furiosa.common.errors import (
    BadArgument,
    BrokerUnavailable,
    DeviceBusy,
    InvalidProgram,
    LeaseEnded,
)
from furiosa.common.names import ALL, CoreRange, DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.tensor import DType, TensorSpec
from furiosa.common.views import (
    Architecture,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseEndedNotice,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    ProcessView,
    ProgramView,
    UtilizationView,
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2
from furiosa.queuepair.layout import Descriptors, Geometry
from support.fake_broker import TOKEN, FakeBroker, Handler, Peer, fake_broker

PE0 = DeviceFile(0, CoreRange(0, 0))
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OwnerView(7, 1, 2, 3, "x"), 5.5)
SPEC = DeviceSpec.parse("npu0pe0")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    before = open_files()
    with fake_broker() as broker:
        yield broker
    assert open_files() == before, "descriptors were left open"


@pytest.fixture
def connection(broker: FakeBroker) -> Iterator[Connection]:
    with Connection.open(broker.address, client="t") as connection:
        yield connection


def replies(response: object) -> Handler:
    return lambda peer, request, fds: peer.reply(response)  # type: ignore[arg-type]  # any message


# greeting


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


def test_remote_address_is_refused_in_words() -> None:
    with pytest.raises(BrokerUnavailable, match=r"example\.org:1: remote brokers .* not supported"):
        Connection.open(TcpAddress("example.org", 1), client="t")


def test_environment_says_where(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FURIOSA_BROKER", broker.path)
    Connection.open(client="from the environment").close()
    assert broker.hellos == ["from the environment"]


def test_welcome_of_an_unknown_origin_is_refused(broker: FakeBroker) -> None:
    broker.welcome.origin = 0  # type: ignore[assignment]  # UNSPECIFIED
    with pytest.raises(BrokerUnavailable, match="its welcome makes no sense"):
        Connection.open(broker.address, client="t")


# calls


def test_devices(broker: FakeBroker, connection: Connection) -> None:
    cores = (CoreView(0, CoreState.OCCUPIED, PE0), CoreView(1, CoreState.AVAILABLE))
    device = DeviceView(
        *(0, Architecture.WARBOY, Origin.EMULATED, Health.ALIVE, "u", "s", "f", "d", "b", "p"),
        *(-1, 40_000, None, cores, (DeviceFile(0, ALL), PE0)),
    )
    message = devices_pb2.ListDevicesResponse(devices=[wire.device_to_wire(device)])
    broker.handlers["Devices/List"] = replies(message)
    assert connection.devices() == (device,)


def test_processes(broker: FakeBroker, connection: Connection) -> None:
    process = ProcessView(PE0, 7, "x y", "a1")
    message = devices_pb2.ListProcessesResponse(processes=[wire.process_to_wire(process)])
    broker.handlers["Devices/Processes"] = replies(message)
    assert connection.processes() == (process,)


def test_utilization(broker: FakeBroker, connection: Connection) -> None:
    use = UtilizationView(PE0, 5, 0.5, 0.25, 0.75, 7, "x", 1.5)
    message = devices_pb2.UtilizationResponse(utilizations=[wire.utilization_to_wire(use)])
    broker.handlers["Devices/Utilization"] = replies(message)
    assert connection.utilization(250) == (use,)
    request = devices_pb2.UtilizationRequest.FromString(broker.requests["Devices/Utilization"])
    assert request.window_ms == 250


def test_leases(broker: FakeBroker, connection: Connection) -> None:
    message = leases_pb2.ListLeasesResponse(leases=[wire.lease_to_wire(LEASE)])
    broker.handlers["Leases/List"] = replies(message)
    assert connection.leases() == (LEASE,)


@pytest.mark.parametrize(
    ("wait_limit", "seconds"),
    [(None, None), (0, 0.0), (0.25, 0.25), (3, 3.0), (math.inf, 10 * 365 * 86_400.0)],
)
def test_acquire_says_how_long_it_will_wait(
    broker: FakeBroker, connection: Connection, wait_limit: float | None, seconds: float | None
) -> None:
    message = leases_pb2.AcquireResponse(lease=wire.lease_to_wire(LEASE))
    broker.handlers["Leases/Acquire"] = replies(message)
    assert connection.acquire(SPEC, wait_limit) == LEASE
    request = leases_pb2.AcquireRequest.FromString(broker.requests["Leases/Acquire"])
    assert request.device_spec == "npu:0:0"
    assert request.HasField("wait_limit") == (seconds is not None)
    assert request.wait_limit.ToNanoseconds() == (seconds or 0) * 1e9


@pytest.mark.parametrize("wait_limit", [-1.0, math.nan, -math.inf])
def test_negative_wait_is_refused_before_anything_is_sent(
    broker: FakeBroker, connection: Connection, wait_limit: float
) -> None:
    with pytest.raises(BadArgument, match="wait_limit"):
        connection.acquire(SPEC, wait_limit)
    assert broker.calls["Leases/Acquire"] == 0


def test_failure_is_raised_as_the_error_it_was(broker: FakeBroker, connection: Connection) -> None:
    busy = DeviceBusy("npu0pe0", "npu0", 7, "x")
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: peer.fail(busy)
    with pytest.raises(DeviceBusy) as caught:
        connection.acquire(SPEC)
    assert vars(caught.value) == vars(busy)
    assert broker.calls["cancel"] == 0


def test_release(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Release"] = replies(leases_pb2.ReleaseResponse())
    connection.release("a1")
    request = leases_pb2.ReleaseRequest.FromString(broker.requests["Leases/Release"])
    assert request.lease_id == "a1"


def test_program_travels_in_sealed_memory(broker: FakeBroker, connection: Connection) -> None:
    program = ProgramView(4, "a1", "warboy", (TensorSpec("i", DType.INT8, (1, 2)),), (), 300_000)
    enf = os.urandom(300_000)
    arrived: list[tuple[bytes, int]] = []

    def load(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        (fd,) = fds
        arrived.append((os.pread(fd, 1 << 20, 0), fcntl.fcntl(fd, fcntl.F_GET_SEALS)))
        peer.reply(programs_pb2.LoadProgramResponse(program=wire.program_to_wire(program)))

    broker.handlers["Session/LoadProgram"] = load
    assert connection.load_program("a1", enf) == program
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert arrived == [(enf, seals)]


def test_refused_program_is_an_invalid_program(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Session/LoadProgram"] = lambda peer, request, fds: peer.fail(
        InvalidProgram("magic", "no magic")
    )
    with pytest.raises(InvalidProgram, match="magic"):
        connection.load_program("a1", b"")


def test_unload(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Programs/Unload"] = replies(programs_pb2.UnloadProgramResponse())
    connection.unload_program("a1", 4)
    request = programs_pb2.UnloadProgramRequest.FromString(broker.requests["Programs/Unload"])
    assert (request.lease_id, request.program_id) == ("a1", 4)


def queue_of(*fds: int) -> Handler:
    def open_queue(peer: Peer, request: bytes, _: tuple[int, ...]) -> None:
        peer.reply(handoff_pb2.OpenQueueResponse(queue_id=6), fds)

    return open_queue


def test_queue_comes_with_three_descriptors_in_order(
    broker: FakeBroker, connection: Connection
) -> None:
    pipes = [os.pipe() for _ in range(3)]
    broker.handlers["Session/OpenQueue"] = queue_of(*(writing for _, writing in pipes))
    queue_id, descriptors = connection.open_queue("a1", PE0, Geometry(8, 4096))
    assert queue_id == 6
    for (reading, _), fd in zip(pipes, descriptors.as_tuple(), strict=True):
        os.write(fd, b"x")
        assert os.read(reading, 1) == b"x"
        assert not os.get_inheritable(fd)
    descriptors.close()
    for pipe in pipes:
        Descriptors(*pipe, os.dup(pipe[0])).close()
    request = handoff_pb2.OpenQueueRequest.FromString(broker.requests["Session/OpenQueue"])
    assert (request.lease_id, request.device_file) == ("a1", "npu0pe0")
    assert (request.depth, request.arena_bytes) == (8, 4096)


def test_queue_with_the_wrong_number_of_descriptors_is_refused(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Session/OpenQueue"] = queue_of(0, 1)
    with pytest.raises(BrokerUnavailable, match="has 2 descriptors, not 3"):
        connection.open_queue("a1", PE0, Geometry(8, 4096))


def test_close_queue(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Session/CloseQueue"] = replies(handoff_pb2.CloseQueueResponse())
    connection.close_queue("a1", 6)
    request = handoff_pb2.CloseQueueRequest.FromString(broker.requests["Session/CloseQueue"])
    assert (request.lease_id, request.queue_id) == ("a1", 6)


# notices


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
    assert connection.take_notices("a1") == []


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
