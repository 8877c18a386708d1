"""A connection to a broker: devices, leases, programs and queues as calls on values."""

import fcntl
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self, TypeVar

from google.protobuf.message import DecodeError

from furiosa.client._async.attach import attach, default_address
from furiosa.client._async.session import Session
from furiosa.client._async.watch import Watch
from furiosa.client._core import (
    admin_requests,
    device_requests,
    lease_requests,
    program_requests,
    reservation_requests,
)
from furiosa.client._core.request import Request
from furiosa.client.address import Address
from furiosa.client.snapshot import Snapshot
from furiosa.common import wire
from furiosa.common.channel import close_all
from furiosa.common.faults import Fault, FaultView
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import (
    CardPart,
    CardTexts,
    DeviceView,
    LeaseNotice,
    LeaseOverview,
    LeaseView,
    Origin,
    ProcessView,
    ProgramView,
    QueuedNotice,
    UtilizationView,
)

if TYPE_CHECKING:
    # with numpy, which is slow to import
    from furiosa.queuepair.layout import Descriptors, Geometry

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

_T = TypeVar("_T")


class Connection:
    """One session with a broker. Any number of tasks may use it at once; close it, or use `async with`.

    Every method raises BrokerUnavailable when the broker is gone or does not answer within 30 s, and
    what the broker says. A cancelled call holds nothing afterwards. A forked child cannot use it.
    Times are in seconds.
    """

    def __init__(self, session: Session, address: Address | None) -> None:
        """For `open`, which greets first. `address`: None for the user's own broker."""
        welcome = session.welcome
        self._session = session
        self._address = address
        # whether all is well and `take_notices` would find nothing, at a fraction of its cost
        self.is_quiet: Callable[[str], bool] = session.is_quiet
        self._secrets: dict[str, str] = {}  # by lease
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
        return await cls._attached(default_address() if address is None else address, client)

    async def reopen(self, *, client: str) -> Self:
        """Another connection to the same broker, or to the one that has taken its place; the user's own is
        started if need be. Raises: as `open`.
        """
        return await self._attached(self._address, client)

    @classmethod
    async def _attached(cls, address: Address | None, client: str) -> Self:
        session = await attach(address, client)
        try:
            return cls(session, address)
        except BaseException:
            session.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def devices(self) -> tuple[DeviceView, ...]:
        return await self._ask(device_requests.devices())

    def watch_devices(self, after_revision: int = 0) -> Watch[Snapshot[DeviceView]]:
        """Every card: now, or as soon as that is newer than `after_revision`; then after each change."""
        return self._watch(device_requests.watch_devices(after_revision))

    async def processes(self) -> tuple[ProcessView, ...]:
        return await self._ask(device_requests.processes())

    def watch_processes(self, after_revision: int = 0) -> Watch[Snapshot[ProcessView]]:
        """Every process that holds a device file, in time as `watch_devices`."""
        return self._watch(device_requests.watch_processes(after_revision))

    async def utilization(self, window_ms: int = 1000) -> tuple[UtilizationView, ...]:
        """Observed over `window_ms`, 1..60000, which is also how long the call takes."""
        return await self._ask(device_requests.utilization(window_ms))

    async def inspect(self, npu: int, part: CardPart) -> CardTexts:
        """What the card's files say now, as text. Raises: UnknownDevice."""
        return await self._ask(device_requests.inspect(npu, part))

    async def leases(self) -> tuple[LeaseView, ...]:
        """Those that have not ended, oldest first."""
        return (await self.overview()).leases

    async def overview(self) -> LeaseOverview:
        """Leases, and who waits for one."""
        return await self._ask(lease_requests.overview())

    def watch_leases(self, after_revision: int = 0) -> Watch[LeaseOverview]:
        """The overview, in time as `watch_devices`."""
        return self._watch(lease_requests.watch(after_revision))

    async def acquire(
        self,
        spec: DeviceSpec,
        wait_limit: float | None = None,
        *,
        time_to_live: float | None = None,
        linger: float | None = None,
        priority: int | None = None,
        on_queued: Callable[[QueuedNotice], None] | None = None,
    ) -> LeaseView:
        """All device files that `spec` asks for. A cancelled call leaves no lease.

        `wait_limit`: None does not wait, math.inf waits for ever. While it waits, `on_queued` is called
        by this task with the place in the queue; an error that it raises ends the wait. `time_to_live`:
        the lease expires without a `renew`. `linger`: it outlives its connection for so long, see
        `secret`. `priority`: None is the tenant's usual one, higher is served first.
        Raises: DeviceBusy, DeviceUnavailable, UnknownDevice, LimitExceeded, RateLimited, NotAllowed;
        BadArgument for a negative time.
        """
        request = lease_requests.acquire(
            spec, wait_limit, time_to_live, linger, priority, on_queued is not None
        )
        lease, secret = await self._ask(request, on_queued)
        if secret:
            self._secrets[lease.id] = secret
        return lease

    def secret(self, lease_id: str) -> str:
        """What `resume` needs from whoever takes the lease over; keep it where only they can read it.

        Empty for a lease that does not linger or is not this connection's.
        """
        return self._secrets.get(lease_id, "")

    async def renew(self, lease_id: str, time_to_live: float | None = None) -> LeaseView:
        """Start the time to live anew, as long as before or `time_to_live`. Raises: LeaseEnded,
        UnknownLease, NotLeaseOwner.
        """
        return await self._ask(lease_requests.renew(lease_id, time_to_live))

    async def resume(self, lease_id: str, secret: str = "") -> LeaseView:
        """Take over a lease that lingers, or that another process holds, by its secret. The process that
        acquired it needs none. May be called again when it was cancelled.

        Raises: NotLeaseOwner, LeaseEnded, UnknownLease.
        """
        lease = await self._ask(lease_requests.resume(lease_id, secret))
        if secret:
            self._secrets[lease_id] = secret
        return lease

    async def transfer(self, lease_id: str, pid: int) -> LeaseView:
        """Hand a lease to a descendant of this process that has a connection of its own."""
        lease = await self._ask(lease_requests.transfer(lease_id, pid))
        self._forget(lease_id)
        return lease

    async def release(self, lease_id: str) -> None:
        """Returns when the cores are free. Notices of the lease that nobody took are dropped."""
        await self._ask(lease_requests.release(lease_id))
        self._forget(lease_id)

    async def load_program(self, lease_id: str, enf: bytes, *, traced: bool = False) -> ProgramView:
        """Load an ENF onto every device file of the lease.

        A `traced` one is slower and has one output more, with the times of its steps: `furiosa.enf.spans`.
        Raises: InvalidProgram, UnsupportedProgram, LeaseEnded, WorkerDied.
        """
        request = program_requests.load(lease_id, traced)
        return await self._ask(request, descriptors=(_sealed(enf),))

    async def unload_program(self, lease_id: str, program_id: int) -> None:
        await self._ask(program_requests.unload(lease_id, program_id))

    async def open_queue(
        self, lease_id: str, file: DeviceFile, geometry: "Geometry"
    ) -> tuple[int, "Descriptors"]:
        """A queue to the worker of `file`: its number, and its descriptors, which are the caller's."""
        from furiosa.queuepair.layout import Descriptors

        queue_id, descriptors = await self._ask_for_descriptors(
            program_requests.open_queue(lease_id, file, geometry), 3
        )
        return queue_id, Descriptors.of(descriptors)

    async def close_queue(self, lease_id: str, queue_id: int) -> None:
        await self._ask(program_requests.close_queue(lease_id, queue_id))

    async def open_device(self, lease_id: str, file: DeviceFile) -> int:
        """The device node itself, for a runtime that drives the card on its own: a descriptor opened
        for reading and writing, which is the caller's and closes on exec.
        """
        _, (fd,) = await self._ask_for_descriptors(program_requests.open_device(lease_id, file), 1)
        return fd

    async def revoke(
        self, lease_id: str, grace: float | None = None, reason: str = ""
    ) -> LeaseView:
        """Take a lease away: its owner is told `reason` and has `grace`, by default the broker's
        setting. Does not wait for the end. For administrators, as the next ones; raises: NotAllowed.
        """
        return await self._ask(admin_requests.revoke(lease_id, grace, reason))

    async def cordon(self, npu: int, reason: str = "") -> None:
        """Nothing of the card is granted any more; what is held stays."""
        await self._ask(admin_requests.cordon(npu, reason))

    async def uncordon(self, npu: int) -> None:
        """Ends `cordon`, and what `drain` left."""
        await self._ask(admin_requests.uncordon(npu))

    async def drain(self, npu: int, grace: float | None = None, reason: str = "") -> int:
        """Cordon the card and revoke the leases on it; how many those were. Returns when it is free."""
        return await self._ask(admin_requests.drain(npu, grace, reason))

    async def reload_tenants(self) -> str:
        """Have the tenants file read again; the path of it, empty when there is none.

        Raises: BadArgument for a bad file, which leaves the old policy in force.
        """
        return await self._ask(admin_requests.reload())

    async def emulate(
        self, file: DeviceFile, fault: Fault, seconds: float | None = None
    ) -> FaultView:
        """Make a virtual card fail, for so long; None: until `clear_faults`. What stands afterwards.

        Raises: BadArgument where the cards are real.
        """
        return await self._ask(admin_requests.emulate(FaultView(file, fault), seconds))

    async def clear_faults(self, npu: int | None = None) -> int:
        """Let the card be well again; None: all of them. How many faults there were."""
        return await self._ask(admin_requests.clear_faults(npu))

    async def faults(self) -> tuple[FaultView, ...]:
        """Those that stand, by device file and kind."""
        return await self._ask(admin_requests.faults())

    async def reserve(
        self, files: Sequence[DeviceFile], *, manager: str, name: str = "", label: str = ""
    ) -> ReservationView:
        """Set all of `files` aside for a container that will have the reservation's grant file mounted.

        With a `name` it is one thing: to reserve it again gives it again. `label` is for people. For
        administrators, and in containers with the grant file "manager"; docs/reservations.md.
        Raises: DeviceBusy, DeviceUnavailable, UnknownDevice, NotAllowed, NotRecorded, BadArgument.
        """
        return await self._ask(reservation_requests.reserve(files, manager, name, label))

    async def cancel_reservation(self, reservation_id: str) -> None:
        """Ends it; no effect when it has ended. For whom `reserve` is.

        Raises: DeviceBusy while a process lives that may lease its cores; NotAllowed, NotRecorded.
        """
        await self._ask(reservation_requests.cancel(reservation_id))

    async def reservations(self) -> tuple[ReservationView, ...]:
        """Oldest first. Whoever watches devices hears of changes."""
        return await self._ask(reservation_requests.reservations())

    async def grants(self) -> GrantsView:
        """Where grant files and sockets are on the broker's machine."""
        return await self._ask(reservation_requests.grants())

    async def wait(self, fds: Sequence[int], lease_id: str | None = None) -> None:
        """Returns when one of `fds` is readable, or there are notices to take: of `lease_id`, or of any
        lease when that is None. `fds` stay the caller's and must stay open until then.

        Raises: BrokerUnavailable.
        """
        await self._session.wait(fds, lease_id)

    def fileno(self) -> int:
        """Readable when something has arrived. For waiting only: it is read by the calls of this class."""
        return self._session.fileno()

    def take_notices(self, lease_id: str) -> list[LeaseNotice]:
        """What happened to a lease since the last time, oldest first; at most 64 are kept.

        Raises: BrokerUnavailable when there is nothing left to take and the broker is gone.
        """
        return self._session.take_notices(lease_id)

    async def close(self) -> None:
        """Ends the session: the broker takes its leases back. Calls underway fail; no effect twice."""
        self._session.close()

    async def _ask(
        self,
        request: Request[_T],
        on_queued: Callable[[QueuedNotice], None] | None = None,
        *,
        descriptors: Sequence[int] = (),
    ) -> _T:
        data, _ = await self._session.call(
            request.method,
            request.message,
            request.seconds,
            descriptors=descriptors,
            undo=request.undo,
            on_queued=on_queued,
        )
        return self._converted(request, data)

    async def _ask_for_descriptors(
        self, request: Request[_T], attached: int
    ) -> tuple[_T, tuple[int, ...]]:
        data, received = await self._session.call(
            request.method, request.message, request.seconds, attached=attached, undo=request.undo
        )
        try:
            return self._converted(request, data), received
        except BaseException:
            close_all(received)
            raise

    def _watch(self, request: Request[_T]) -> Watch[_T]:
        call = self._session.watch(request.method, request.message)
        return Watch(self._session, call, lambda data: self._converted(request, data))

    def _converted(self, request: Request[_T], data: bytes) -> _T:
        try:
            return request.convert(data)
        except (DecodeError, ValueError) as exc:
            cause = f"its answer to {request.method} makes no sense: {exc}"
            raise self._session.broken(cause) from None

    def _forget(self, lease_id: str) -> None:
        self._secrets.pop(lease_id, None)
        self._session.forget_notices(lease_id)


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
