"""Views to protobuf messages and back: the only converter of the broker API. `failures` does errors.

`*_from_wire` refuses what a well-behaved peer never sends (an UNSPECIFIED enum, a malformed name) with
ValueError; a wrong guess would be worse than a failed call.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import DeviceFile
from furiosa.common.tensor import DType, Quantization, TensorSpec
from furiosa.common.views import (
    Architecture,
    Availability,
    Container,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseEndedNotice,
    LeaseOverview,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
    Notice,
    Origin,
    OwnerView,
    ProcessView,
    ProgramView,
    QueuedNotice,
    UtilizationView,
    WaiterView,
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import (
    devices_pb2,
    handoff_pb2,
    leases_pb2,
    programs_pb2,
    types_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

PROTOCOL_VERSION: Final = 1  # of Hello and Welcome

_E = TypeVar("_E", bound=Enum)
_V = TypeVar("_V", bound=int)


def _numbers(kind: type[_E], wire: "_EnumTypeWrapper[_V]", prefix: str) -> Mapping[_E, _V]:
    """On the wire a member has the same name behind its kind's. Raises: ValueError for one that lacks."""
    return {member: wire.Value(f"{prefix}_{member.name}") for member in kind}


_ARCHITECTURE: Final = _numbers(Architecture, types_pb2.Architecture, "ARCHITECTURE")
_ORIGIN: Final = _numbers(Origin, types_pb2.DeviceOrigin, "DEVICE_ORIGIN")
_HEALTH: Final = _numbers(Health, types_pb2.DeviceHealth, "DEVICE_HEALTH")
_AVAILABILITY: Final = _numbers(Availability, types_pb2.Availability, "AVAILABILITY")
_CORE_STATE: Final = _numbers(CoreState, types_pb2.CoreState, "CORE_STATE")
_LEASE_STATE: Final = _numbers(LeaseState, types_pb2.LeaseState, "LEASE_STATE")
_DTYPE: Final = _numbers(DType, types_pb2.DataType, "DATA_TYPE")


def _back(table: Mapping[_E, int], number: int) -> _E:
    for member, value in table.items():
        if value == number:
            return member
    kind = type(next(iter(table))).__name__
    raise ValueError(f"{number} is no {kind} this version knows")


def _file(text: str) -> DeviceFile:
    try:
        return DeviceFile.parse(text)
    except BadDeviceFile as exc:
        raise ValueError(str(exc)) from None


def _stamp(seconds: float) -> Timestamp:
    return _stamp_of(round(seconds * 1e6) * 1000)  # a float holds microseconds, not more


def _stamp_of(nanoseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(nanoseconds)
    return stamp


def _seconds(stamp: Timestamp) -> float:
    return stamp.ToMicroseconds() / 1e6


def _core_to_wire(core: CoreView) -> types_pb2.CoreStatus:
    return types_pb2.CoreStatus(
        core=core.core,
        state=_CORE_STATE[core.state],
        device_file="" if core.device_file is None else str(core.device_file),
    )


def _core_from_wire(message: types_pb2.CoreStatus) -> CoreView:
    file = _file(message.device_file) if message.device_file else None
    return CoreView(message.core, _back(_CORE_STATE, message.state), file)


def device_to_wire(device: DeviceView) -> types_pb2.Device:
    return types_pb2.Device(
        index=device.index,
        architecture=_ARCHITECTURE[device.architecture],
        origin=_ORIGIN[device.origin],
        health=_HEALTH[device.health],
        uuid=device.uuid,
        serial_number=device.serial_number,
        firmware_version=device.firmware_version,
        driver_version=device.driver_version,
        pci_bdf=device.pci_bdf,
        pci_dev=device.pci_dev,
        numa_node=device.numa_node,
        temperature_millicelsius=device.temperature_millicelsius,
        power_microwatts=device.power_microwatts,
        cores=map(_core_to_wire, device.cores),
        device_files=map(str, device.device_files),
        availability=_AVAILABILITY[device.availability],
        reason=device.reason,
    )


def device_from_wire(message: types_pb2.Device) -> DeviceView:
    has_temperature = message.HasField("temperature_millicelsius")
    return DeviceView(
        index=message.index,
        architecture=_back(_ARCHITECTURE, message.architecture),
        origin=_back(_ORIGIN, message.origin),
        health=_back(_HEALTH, message.health),
        uuid=message.uuid,
        serial_number=message.serial_number,
        firmware_version=message.firmware_version,
        driver_version=message.driver_version,
        pci_bdf=message.pci_bdf,
        pci_dev=message.pci_dev,
        numa_node=message.numa_node,
        temperature_millicelsius=message.temperature_millicelsius if has_temperature else None,
        power_microwatts=message.power_microwatts if message.HasField("power_microwatts") else None,
        cores=tuple(map(_core_from_wire, message.cores)),
        device_files=tuple(map(_file, message.device_files)),
        availability=_back(_AVAILABILITY, message.availability),
        reason=message.reason,
    )


def origin_to_wire(origin: Origin) -> types_pb2.DeviceOrigin.ValueType:
    return _ORIGIN[origin]


def origin_from_wire(number: int) -> Origin:
    return _back(_ORIGIN, number)


def owner_to_wire(owner: OwnerView) -> types_pb2.Owner:
    container = None
    if owner.container is not None:
        container = types_pb2.Container(
            runtime=owner.container.runtime,
            id=owner.container.id,
            pod_uid=owner.container.pod_uid,
        )
    return types_pb2.Owner(
        pid=owner.pid,
        uid=owner.uid,
        gid=owner.gid,
        start_time_ticks=owner.start_time_ticks,
        command_line=owner.command_line,
        container=container,
        remote=owner.remote,
        subject=owner.subject,
    )


def owner_from_wire(message: types_pb2.Owner) -> OwnerView:
    container = None
    if message.HasField("container"):
        found = message.container
        container = Container(found.runtime, found.id, found.pod_uid)
    return OwnerView(
        pid=message.pid,
        uid=message.uid,
        gid=message.gid,
        start_time_ticks=message.start_time_ticks,
        command_line=message.command_line,
        container=container,
        remote=message.remote,
        subject=message.subject,
    )


def lease_to_wire(lease: LeaseView) -> types_pb2.Lease:
    return types_pb2.Lease(
        id=lease.id,
        device_files=map(str, lease.device_files),
        state=_LEASE_STATE[lease.state],
        owner=owner_to_wire(lease.owner),
        granted_at=_stamp(lease.granted_at),
        tenant=lease.tenant,
        priority=lease.priority,
        ends_at=None if lease.ends_at is None else _stamp(lease.ends_at),
        cause=lease.cause,
    )


def lease_from_wire(message: types_pb2.Lease) -> LeaseView:
    return LeaseView(
        id=message.id,
        device_files=tuple(map(_file, message.device_files)),
        state=_back(_LEASE_STATE, message.state),
        owner=owner_from_wire(message.owner),
        granted_at=_seconds(message.granted_at),
        tenant=message.tenant,
        priority=message.priority,
        ends_at=_seconds(message.ends_at) if message.HasField("ends_at") else None,
        cause=message.cause,
    )


def waiter_to_wire(waiter: WaiterView) -> types_pb2.Waiter:
    return types_pb2.Waiter(
        position=waiter.position,
        device_spec=waiter.device_spec,
        tenant=waiter.tenant,
        priority=waiter.priority,
        owner=owner_to_wire(waiter.owner),
        since=_stamp(waiter.since),
        deadline=None if waiter.deadline is None else _stamp(waiter.deadline),
        reason=waiter.reason,
        session_id=waiter.session,
    )


def waiter_from_wire(message: types_pb2.Waiter) -> WaiterView:
    return WaiterView(
        position=message.position,
        device_spec=message.device_spec,
        tenant=message.tenant,
        priority=message.priority,
        owner=owner_from_wire(message.owner),
        since=_seconds(message.since),
        deadline=_seconds(message.deadline) if message.HasField("deadline") else None,
        reason=message.reason,
        session=message.session_id,
    )


def overview_to_wire(overview: LeaseOverview) -> leases_pb2.ListLeasesResponse:
    return leases_pb2.ListLeasesResponse(
        leases=map(lease_to_wire, overview.leases),
        waiters=map(waiter_to_wire, overview.waiters),
        revision=overview.revision,
    )


def overview_from_wire(
    message: leases_pb2.ListLeasesResponse | leases_pb2.WatchLeasesResponse,
) -> LeaseOverview:
    return LeaseOverview(
        leases=tuple(map(lease_from_wire, message.leases)),
        waiters=tuple(map(waiter_from_wire, message.waiters)),
        revision=message.revision,
    )


def process_to_wire(process: ProcessView) -> types_pb2.Process:
    return types_pb2.Process(
        device_file=str(process.device_file),
        pid=process.pid,
        command_line=process.command_line,
        lease_id=process.lease_id,
        remote=process.remote,
    )


def process_from_wire(message: types_pb2.Process) -> ProcessView:
    return ProcessView(
        _file(message.device_file),
        message.pid,
        message.command_line,
        message.lease_id,
        message.remote,
    )


def utilization_to_wire(use: UtilizationView) -> types_pb2.Utilization:
    return types_pb2.Utilization(
        device_file=str(use.device_file),
        window_ns=use.window_ns,
        npu_fraction=use.npu_fraction,
        computation_fraction=use.computation_fraction,
        io_fraction=use.io_fraction,
        pid=use.pid,
        command_line=use.command_line,
        observed_at=_stamp_of(use.observed_at_ns),
    )


def utilization_from_wire(message: types_pb2.Utilization) -> UtilizationView:
    return UtilizationView(
        device_file=_file(message.device_file),
        window_ns=message.window_ns,
        npu_fraction=message.npu_fraction,
        computation_fraction=message.computation_fraction,
        io_fraction=message.io_fraction,
        pid=message.pid,
        command_line=message.command_line,
        observed_at_ns=message.observed_at.ToNanoseconds(),
    )


def tensor_to_wire(spec: TensorSpec) -> types_pb2.TensorSpec:
    message = types_pb2.TensorSpec(
        name=spec.name,
        data_type=_DTYPE[spec.dtype],
        shape=spec.shape,
        axes=spec.axes,
        extent=spec.extent,
    )
    if spec.quantization is not None:
        message.quantization.scale = spec.quantization.scale
        message.quantization.zero_point = spec.quantization.zero_point
    return message


def tensor_from_wire(message: types_pb2.TensorSpec) -> TensorSpec:
    quantization = None
    if message.HasField("quantization"):
        quantization = Quantization(message.quantization.scale, message.quantization.zero_point)
    return TensorSpec(
        message.name,
        _back(_DTYPE, message.data_type),
        tuple(message.shape),
        quantization,
        message.axes,
        tuple(message.extent),
    )


def program_to_wire(program: ProgramView) -> programs_pb2.Program:
    return programs_pb2.Program(
        id=program.id,
        lease_id=program.lease_id,
        target=program.target,
        inputs=map(tensor_to_wire, program.inputs),
        outputs=map(tensor_to_wire, program.outputs),
        enf_bytes=program.enf_bytes,
    )


def program_from_wire(message: programs_pb2.Program) -> ProgramView:
    return ProgramView(
        id=message.id,
        lease_id=message.lease_id,
        target=message.target,
        inputs=tuple(map(tensor_from_wire, message.inputs)),
        outputs=tuple(map(tensor_from_wire, message.outputs)),
        enf_bytes=message.enf_bytes,
    )


def devices_from_wire(message: devices_pb2.ListDevicesResponse) -> tuple[DeviceView, ...]:
    return tuple(map(device_from_wire, message.devices))


def notice_to_wire(notice: Notice) -> handoff_pb2.Notice:
    match notice:
        case WorkerDiedNotice(lease_id, file, cause):
            died = handoff_pb2.WorkerDied(lease_id=lease_id, device_file=str(file), cause=cause)
            return handoff_pb2.Notice(worker_died=died)
        case LeaseEndedNotice(lease_id, cause):
            ended = handoff_pb2.LeaseEnded(lease_id=lease_id, cause=cause)
            return handoff_pb2.Notice(lease_ended=ended)
        case LeaseRecalledNotice(lease_id, cause, grace, state):
            recalled = handoff_pb2.LeaseRecalled(
                lease_id=lease_id,
                cause=cause,
                grace_ms=round(grace * 1000),
                state=_LEASE_STATE[state],
            )
            return handoff_pb2.Notice(lease_recalled=recalled)
        case QueuedNotice(call_id, position, reason):
            queued = handoff_pb2.Queued(call_id=call_id, position=position, reason=reason)
            return handoff_pb2.Notice(queued=queued)


def notice_from_wire(message: handoff_pb2.Notice) -> Notice:
    kind = message.WhichOneof("event")
    if kind == "worker_died":
        died = message.worker_died
        return WorkerDiedNotice(died.lease_id, _file(died.device_file), died.cause)
    if kind == "lease_ended":
        return LeaseEndedNotice(message.lease_ended.lease_id, message.lease_ended.cause)
    if kind == "lease_recalled":
        recalled = message.lease_recalled
        state = _back(_LEASE_STATE, recalled.state)
        grace = recalled.grace_ms / 1000
        return LeaseRecalledNotice(recalled.lease_id, recalled.cause, grace, state)
    if kind == "queued":
        queued = message.queued
        return QueuedNotice(queued.call_id, queued.position, queued.reason)
    raise ValueError("a notice without an event this version knows")
