"""A connection to a broker: devices, leases, programs and queues as calls on values."""

import fcntl
import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Payload

from furiosa.client._async.attach import attach
from furiosa.client._async.session import ANSWER_SECONDS, Session, Undo
from furiosa.client.address import Address
from furiosa.common import wire
from furiosa.common.errors import BadArgument
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import (
    DeviceView,
    LeaseView,
    Notice,
    Origin,
    ProcessView,
    ProgramView,
    UtilizationView,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2

if TYPE_CHECKING:
    from furiosa.queuepair.layout import (
        Descriptors,
        Geometry,
    )  # with numpy, which is slow to import

MARGIN_SECONDS: Final = 10.0  # of an answer beyond the time that the broker was asked to wait
LOAD_SECONDS: Final = 90.0  # the broker itself gives a worker a minute
FOREVER_SECONDS: Final = 10 * 365 * 86_400  # how math.inf travels: a Duration has no infinity

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

_T = TypeVar("_T")


class Connection:
    """One session with a broker. Any number of tasks may use it at once; close it, or use `async with`.

    Every method raises BrokerUnavailable when the broker is gone or does not answer within 30 s, and
    what the broker says. A cancelled call leaves nothing behind. A forked child cannot use it.
    """

    def __init__(self, session: Session) -> None:
        """For `open`, which greets first."""
        welcome = session.welcome
        self._session = session
        try:
            self.origin: Origin = wire.origin_from_wire(welcome.origin)
        except ValueError as exc:
            raise session.broken(f"its welcome makes no sense: {exc}") from None
        self.broker_version: str = welcome.broker_version
        self.session_token: str = welcome.session_token
        self.grpc_target: str = welcome.grpc_target
        self.data_target: str = welcome.data_target

    @classmethod
    async def open(cls, address: Address | None = None, *, client: str) -> Self:
        """Attach to a broker; `client` names the caller in its log, e.g. "furiosa-runtime/0.1.0".

        Without an address: what FURIOSA_BROKER says, else the system's broker if there is one, else
        the user's own, which is started if need be. Opened from the main thread, the broker learns of
        this process's death fastest.
        Raises: BrokerUnavailable, BadArgument for a bad environment variable.
        """
        session = await attach(address, client)
        try:
            return cls(session)
        except BaseException:
            session.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def devices(self) -> tuple[DeviceView, ...]:
        request = devices_pb2.ListDevicesRequest()
        return await self._call(
            "Devices/List",
            request,
            lambda data: wire.devices_from_wire(devices_pb2.ListDevicesResponse.FromString(data)),
        )

    async def processes(self) -> tuple[ProcessView, ...]:
        def convert(data: bytes) -> tuple[ProcessView, ...]:
            message = devices_pb2.ListProcessesResponse.FromString(data)
            return tuple(map(wire.process_from_wire, message.processes))

        return await self._call("Devices/Processes", devices_pb2.ListProcessesRequest(), convert)

    async def utilization(self, window_ms: int = 1000) -> tuple[UtilizationView, ...]:
        """Observed over `window_ms`, 1..60000, which is also how long the call takes."""

        def convert(data: bytes) -> tuple[UtilizationView, ...]:
            message = devices_pb2.UtilizationResponse.FromString(data)
            return tuple(map(wire.utilization_from_wire, message.utilizations))

        return await self._call(
            "Devices/Utilization",
            devices_pb2.UtilizationRequest(window_ms=window_ms),
            convert,
            window_ms / 1000 + ANSWER_SECONDS,
        )

    async def leases(self) -> tuple[LeaseView, ...]:
        """Those that have not ended, oldest first."""

        def convert(data: bytes) -> tuple[LeaseView, ...]:
            message = leases_pb2.ListLeasesResponse.FromString(data)
            return tuple(map(wire.lease_from_wire, message.leases))

        return await self._call("Leases/List", leases_pb2.ListLeasesRequest(), convert)

    async def acquire(self, spec: DeviceSpec, wait_limit: float | None = None) -> LeaseView:
        """All device files that `spec` asks for. `wait_limit` in seconds: None does not wait, math.inf
        waits for ever.

        A cancelled call leaves no lease. Raises: DeviceBusy, UnknownDevice; BadArgument for a negative
        wait limit.
        """
        request = leases_pb2.AcquireRequest(device_spec=str(spec))
        if wait_limit is not None:
            request.wait_limit.CopyFrom(_duration(wait_limit))
        seconds = None if wait_limit == math.inf else (wait_limit or 0.0) + MARGIN_SECONDS

        def convert(data: bytes) -> LeaseView:
            return wire.lease_from_wire(leases_pb2.AcquireResponse.FromString(data).lease)

        def undo(data: bytes) -> tuple[str, Payload]:
            lease = leases_pb2.AcquireResponse.FromString(data).lease
            return "Leases/Release", leases_pb2.ReleaseRequest(lease_id=lease.id)

        return await self._call("Leases/Acquire", request, convert, seconds, undo=undo)

    async def release(self, lease_id: str) -> None:
        """Returns when the cores are free. Notices of the lease that nobody took are dropped."""
        request = leases_pb2.ReleaseRequest(lease_id=lease_id)
        await self._call("Leases/Release", request, leases_pb2.ReleaseResponse.FromString)
        self._session.forget_notices(lease_id)

    async def load_program(self, lease_id: str, enf: bytes) -> ProgramView:
        """Load an ENF onto every device file of the lease. Raises: InvalidProgram, UnsupportedProgram,
        LeaseEnded, WorkerDied.
        """

        def convert(data: bytes) -> ProgramView:
            return wire.program_from_wire(programs_pb2.LoadProgramResponse.FromString(data).program)

        def undo(data: bytes) -> tuple[str, Payload]:
            program = programs_pb2.LoadProgramResponse.FromString(data).program
            return "Programs/Unload", programs_pb2.UnloadProgramRequest(
                lease_id=lease_id, program_id=program.id
            )

        return await self._call(
            "Session/LoadProgram",
            handoff_pb2.LoadProgramDescriptorRequest(lease_id=lease_id),
            convert,
            LOAD_SECONDS,
            descriptors=(_sealed(enf),),
            undo=undo,
        )

    async def unload_program(self, lease_id: str, program_id: int) -> None:
        request = programs_pb2.UnloadProgramRequest(lease_id=lease_id, program_id=program_id)
        await self._call("Programs/Unload", request, programs_pb2.UnloadProgramResponse.FromString)

    async def open_queue(
        self, lease_id: str, file: DeviceFile, geometry: "Geometry"
    ) -> tuple[int, "Descriptors"]:
        """A queue to the worker of `file`: its number, and its descriptors, which are the caller's."""
        from furiosa.queuepair.layout import Descriptors

        request = handoff_pb2.OpenQueueRequest(
            lease_id=lease_id,
            device_file=str(file),
            depth=geometry.depth,
            arena_bytes=geometry.arena_bytes,
        )

        def undo(data: bytes) -> tuple[str, Payload]:
            queue_id = handoff_pb2.OpenQueueResponse.FromString(data).queue_id
            return "Session/CloseQueue", handoff_pb2.CloseQueueRequest(
                lease_id=lease_id, queue_id=queue_id
            )

        data, received = await self._session.call(
            "Session/OpenQueue", request, attached=3, undo=undo
        )
        descriptors = Descriptors.of(received)
        try:
            return handoff_pb2.OpenQueueResponse.FromString(data).queue_id, descriptors
        except DecodeError as exc:
            descriptors.close()
            raise self._nonsense("Session/OpenQueue", exc) from None

    async def close_queue(self, lease_id: str, queue_id: int) -> None:
        request = handoff_pb2.CloseQueueRequest(lease_id=lease_id, queue_id=queue_id)
        await self._call("Session/CloseQueue", request, handoff_pb2.CloseQueueResponse.FromString)

    async def wait(self, fds: Sequence[int], lease_id: str | None = None) -> None:
        """Returns when one of `fds` is readable, or there are notices to take: of `lease_id`, or of any
        lease when that is None. `fds` stay the caller's and must stay open until then.

        Raises: BrokerUnavailable.
        """
        await self._session.wait(fds, lease_id)

    def take_notices(self, lease_id: str) -> list[Notice]:
        """What happened to a lease since the last time, oldest first; at most 64 are kept."""
        return self._session.take_notices(lease_id)

    async def close(self) -> None:
        """Ends the session: the broker takes its leases back. Calls underway fail; no effect twice."""
        self._session.close()

    async def _call(
        self,
        method: str,
        request: Payload,
        convert: Callable[[bytes], _T],
        seconds: float | None = ANSWER_SECONDS,
        *,
        descriptors: Sequence[int] = (),
        undo: Undo | None = None,
    ) -> _T:
        data, _ = await self._session.call(
            method, request, seconds, descriptors=descriptors, undo=undo
        )
        try:
            return convert(data)
        except (DecodeError, ValueError) as exc:
            raise self._nonsense(method, exc) from None

    def _nonsense(self, method: str, exc: Exception) -> Exception:
        return self._session.broken(f"its answer to {method} makes no sense: {exc}")


def _duration(seconds: float) -> Duration:
    if not seconds >= 0:
        raise BadArgument("wait_limit", str(seconds), "seconds, 0 or more")
    duration = Duration()
    duration.FromNanoseconds(round(min(seconds, FOREVER_SECONDS) * 1e9))
    return duration


def _sealed(data: bytes) -> int:
    """A memfd that holds `data` and will never change."""
    memory = os.memfd_create("enf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memory)
        raise
    return memory
