"""Devices: read the inventory, convert. Needs no session."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from furiosa.broker.changes import Changes
from furiosa.broker.inventory import Inventory, processes
from furiosa.broker.lease_book import LeaseBook
from furiosa.broker.rpc.methods import Call, Method, ServerStream, Unary
from furiosa.broker.utilization import ReadCounters, measure
from furiosa.common import card_wire
from furiosa.common.errors import BadArgument
from furiosa.common.views import CardPart, CardTexts, ProcessView
from furiosa.common.wire import device_to_wire, process_to_wire, utilization_to_wire
from furiosa.proto.broker.v1 import devices_pb2 as pb

# Raises: UnknownDevice
Inspect = Callable[[int, CardPart], Awaitable[CardTexts]]

DEFAULT_WINDOW_MS = 1000
MAX_WINDOW_MS = 60_000


class DeviceService:
    def __init__(
        self,
        inventory: Inventory,
        leases: LeaseBook,
        counters: ReadCounters,
        inspect: Inspect,
        changes: Changes,
    ) -> None:
        self._inventory = inventory
        self._leases = leases
        self._counters = counters
        self._inspect = inspect
        self._changes = changes

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Devices/List": Unary(pb.ListDevicesRequest, self.list),
            "Devices/Watch": ServerStream(pb.WatchDevicesRequest, self.watch),
            "Devices/Processes": Unary(pb.ListProcessesRequest, self.processes),
            "Devices/WatchProcesses": ServerStream(pb.WatchProcessesRequest, self.watch_processes),
            "Devices/Utilization": Unary(pb.UtilizationRequest, self.utilization),
            "Devices/Inspect": Unary(pb.InspectRequest, self.inspect),
        }

    async def list(self, request: pb.ListDevicesRequest, call: Call) -> pb.ListDevicesResponse:
        revision = self._changes.revision
        devices = await self._inventory.devices(self._leases.leases())
        return pb.ListDevicesResponse(devices=map(device_to_wire, devices), revision=revision)

    async def watch(
        self, request: pb.WatchDevicesRequest, call: Call
    ) -> AsyncIterator[pb.WatchDevicesResponse]:
        revision = request.after_revision
        while True:
            revision = await self._changes.beyond(revision)
            devices = await self._inventory.devices(self._leases.leases())
            yield pb.WatchDevicesResponse(revision=revision, devices=map(device_to_wire, devices))

    async def processes(
        self, request: pb.ListProcessesRequest, call: Call
    ) -> pb.ListProcessesResponse:
        rows = map(process_to_wire, self._processes())
        return pb.ListProcessesResponse(processes=rows, revision=self._changes.revision)

    async def watch_processes(
        self, request: pb.WatchProcessesRequest, call: Call
    ) -> AsyncIterator[pb.WatchProcessesResponse]:
        revision = request.after_revision
        while True:
            revision = await self._changes.beyond(revision)
            rows = map(process_to_wire, self._processes())
            yield pb.WatchProcessesResponse(revision=revision, processes=rows)

    def _processes(self) -> tuple[ProcessView, ...]:
        return processes(self._leases.leases(), self._inventory.foreign)

    async def utilization(
        self, request: pb.UtilizationRequest, call: Call
    ) -> pb.UtilizationResponse:
        window = request.window_ms or DEFAULT_WINDOW_MS
        if window > MAX_WINDOW_MS:
            raise BadArgument("window_ms", str(window), f"1..{MAX_WINDOW_MS}")
        rows = await measure(self._leases.leases, self._counters, window / 1000)
        return pb.UtilizationResponse(utilizations=map(utilization_to_wire, rows))

    async def inspect(self, request: pb.InspectRequest, call: Call) -> pb.InspectResponse:
        npu, part = card_wire.inspection_from_wire(request)
        return card_wire.texts_to_wire(await self._inspect(npu, part))
