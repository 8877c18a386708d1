"""The public API over gRPC, with real stubs."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.proto.broker.v1 import (
    devices_pb2,
    devices_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    programs_pb2,
    programs_pb2_grpc,
    types_pb2,
)
from support.daemon import Daemon


def agent(token: str) -> list[tuple[str, str]]:
    return [("grpc.primary_user_agent", f"furiosa-session/{token}")]


@pytest.fixture
def stranger(daemon: Daemon) -> Iterator[grpc.Channel]:
    """A channel without a session."""
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        yield channel


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[Connection]:
    with Connection.open(client="test") as made:
        yield made


@pytest.fixture
def channel(connection: Connection) -> Iterator[grpc.Channel]:
    """A channel that carries a session's token."""
    options = agent(connection.session_token)
    with grpc.insecure_channel(connection.grpc_target, options=options) as made:
        yield made


def reason(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Status code, reason and fields of a failed call."""
    assert isinstance(error, grpc.Call)
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers["furiosa-error-bin"]
    assert isinstance(raw, bytes)
    detail = types_pb2.ErrorDetail.FromString(raw)
    assert trailers["furiosa-reason"] == detail.reason
    return error.code(), detail.reason, dict(detail.fields)


def refused(
    daemon: Daemon, options: list[tuple[str, str]]
) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Why Acquire fails on a channel with these options."""
    with (
        grpc.insecure_channel(f"unix:{daemon.socket}", options=options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        leases_pb2_grpc.LeasesStub(channel).Acquire(leases_pb2.AcquireRequest(device_spec="npu0"))
    return reason(caught.value)


def test_anybody_may_look(stranger: grpc.Channel) -> None:
    devices = devices_pb2_grpc.DevicesStub(stranger).List(devices_pb2.ListDevicesRequest()).devices
    assert [list(d.device_files) for d in devices] == [["npu0", "npu0pe0", "npu0pe1", "npu0pe0-1"]]
    assert devices[0].origin == types_pb2.DEVICE_ORIGIN_EMULATED
    assert not leases_pb2_grpc.LeasesStub(stranger).List(leases_pb2.ListLeasesRequest()).leases


@pytest.mark.parametrize("token", ["", "0" * 64, "not hex"])
def test_without_a_live_session_nothing_can_be_taken(daemon: Daemon, token: str) -> None:
    code, name, fields = refused(daemon, agent(token))
    assert (code, name) == (grpc.StatusCode.UNAUTHENTICATED, "NO_SESSION")
    assert fields == {"method": "Leases/Acquire"}


def test_a_token_dies_with_its_session(daemon: Daemon) -> None:
    with Connection.open(client="test") as connection:
        options = agent(connection.session_token)
    # the broker has read the end of that session before it answers a later one
    with Connection.open(client="test") as later:
        later.devices()
    assert refused(daemon, options)[1] == "NO_SESSION"


def test_acquire_and_release_belong_to_the_session_s_process(
    channel: grpc.Channel, connection: Connection
) -> None:
    stub = leases_pb2_grpc.LeasesStub(channel)
    lease = stub.Acquire(leases_pb2.AcquireRequest(device_spec="warboy(2)*1")).lease
    assert list(lease.device_files) == ["npu0pe0-1"]
    assert [view.id for view in connection.leases()] == [lease.id]
    stub.Release(leases_pb2.ReleaseRequest(lease_id=lease.id))
    assert connection.leases() == ()


@pytest.mark.parametrize(
    ("spec", "code", "name"),
    [
        ("npu:0:1", grpc.StatusCode.RESOURCE_EXHAUSTED, "DEVICE_BUSY"),
        ("npu:9", grpc.StatusCode.NOT_FOUND, "UNKNOWN_DEVICE"),
        ("npu:0:1-0", grpc.StatusCode.INVALID_ARGUMENT, "BAD_DEVICE_SPEC"),
    ],
)
def test_a_refusal_has_a_code_a_reason_and_fields(
    channel: grpc.Channel, connection: Connection, spec: str, code: grpc.StatusCode, name: str
) -> None:
    connection.acquire(DeviceSpec.parse("npu:0:0-1"))
    with pytest.raises(grpc.RpcError) as caught:
        leases_pb2_grpc.LeasesStub(channel).Acquire(leases_pb2.AcquireRequest(device_spec=spec))
    found_code, found_name, fields = reason(caught.value)
    assert (found_code, found_name) == (code, name)
    assert spec in fields.values()


def test_watch_streams_start_with_what_is_and_follow(
    channel: grpc.Channel, connection: Connection
) -> None:
    leases = leases_pb2_grpc.LeasesStub(channel).Watch(leases_pb2.WatchLeasesRequest(), timeout=60)
    devices = devices_pb2_grpc.DevicesStub(channel).Watch(
        devices_pb2.WatchDevicesRequest(), timeout=60
    )
    first, seen = next(leases), next(devices)
    assert not first.leases
    assert {c.state for c in seen.devices[0].cores} == {types_pb2.CORE_STATE_AVAILABLE}
    lease = connection.acquire(DeviceSpec.parse("npu:0:0-1"))
    second, then = next(leases), next(devices)
    assert [held.id for held in second.leases] == [lease.id]
    assert second.revision > first.revision
    assert {c.device_file for c in then.devices[0].cores} == {"npu0pe0-1"}
    leases.cancel()
    devices.cancel()


def test_utilization_has_a_row_for_each_leased_file(
    channel: grpc.Channel, connection: Connection
) -> None:
    stub = devices_pb2_grpc.DevicesStub(channel)
    request = devices_pb2.UtilizationRequest(window_ms=1)
    assert not stub.Utilization(request).utilizations
    connection.acquire(DeviceSpec.parse("warboy(1)*2"))
    rows = stub.Utilization(request).utilizations
    assert [(row.device_file, row.npu_fraction) for row in rows] == [("npu0pe0", 0), ("npu0pe1", 0)]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Utilization(devices_pb2.UtilizationRequest(window_ms=60_001))
    assert reason(caught.value)[1] == "BAD_ARGUMENT"


def test_a_program_that_comes_in_pieces_must_be_whole(
    channel: grpc.Channel, connection: Connection
) -> None:
    lease = connection.acquire(DeviceSpec.parse("npu:0:0"))
    stub = programs_pb2_grpc.ProgramsStub(channel)
    header = programs_pb2.LoadProgramHeader(lease_id=lease.id, enf_bytes=10)

    def load(*chunks: bytes, first: bool = True) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        parts = [programs_pb2.LoadProgramRequest(chunk=chunk) for chunk in chunks]
        if first:
            parts.insert(0, programs_pb2.LoadProgramRequest(header=header))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Load(iter(parts), timeout=60)
        return reason(caught.value)

    assert load(b"x" * 5)[2]["found"] == "5 bytes in all"
    assert load(b"x" * 11)[2]["found"] == "past 10 bytes"
    assert load(b"x", first=False)[2]["found"] == "not a header"
    # whole, but no program: that is the worker's to say
    code, name, fields = load(b"x" * 4, b"x" * 6)
    assert (code, name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PROGRAM")
    assert fields["rule"]


def test_health_and_reflection_serve_general_tools(stranger: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(stranger)
    for service in ("", "furiosa.proto.broker.v1.Leases"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(stranger)
    (answer,) = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    names = {service.name for service in answer.list_services_response.service}
    assert {f"furiosa.proto.broker.v1.{s}" for s in ("Devices", "Leases", "Programs")} <= names
    wanted = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="furiosa.proto.broker.v1.Leases"
    )
    (found,) = stub.ServerReflectionInfo(iter([wanted]))
    files = map(
        FileDescriptorProto.FromString, found.file_descriptor_response.file_descriptor_proto
    )
    methods = {m.name for file in files for s in file.service for m in s.method}
    assert {"Acquire", "Release", "List", "Watch"} <= methods
