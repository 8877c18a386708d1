"""One resource, as the kubelet asks for it.

Errors of Allocate are read by people, in the events of their pods.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc

from furiosa.agent import Node
from furiosa.common.errors import FuriosaError
from furiosa.deviceplugin.answer import container_answer
from furiosa.deviceplugin.offers import Offer, Unit, files_of, ids_of, label_of, offers, units
from furiosa.deviceplugin.preference import prefer
from furiosa.deviceplugin.settings import Settings
from furiosa.kubelet import Streams
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc

log = logging.getLogger(__name__)

HEALTHY: Final = "Healthy"
UNHEALTHY: Final = "Unhealthy"
AWAY: Final = "the broker is away"
MOST_UNITS: Final = 4096  # in one request


class Resource(rpc.DevicePluginServicer):
    """`settings()` are those in force. `on_allocated(reservation id)` is told of each before its answer."""

    def __init__(
        self,
        name: str,
        node: Node,
        settings: Callable[[], Settings],
        node_name: str,
        on_allocated: Callable[[str], None],
    ) -> None:
        self.name = name
        self.streams = Streams()
        self._node = node
        self._settings = settings
        self._node_name = node_name
        self._on_allocated = on_allocated
        self._told: dict[str, Offer] = {}

    def add(self, server: grpc.aio.Server) -> None:
        rpc.add_DevicePluginServicer_to_server(self, server)

    def offers(self) -> tuple[Offer, ...]:
        """As of now; in the order of cards."""
        state = self._node.state
        found = offers(
            self.name,
            self._units(),
            state.reservations,
            state.lingering,
            self._settings(),
            self._node_name,
        )
        if not state.is_away:
            return found
        given = {i for r in state.reservations if r.manager == self.name for i in ids_of(r)}
        return tuple(
            offer if offer.unit.id in given else Offer(offer.unit, False, AWAY) for offer in found
        )

    async def GetDevicePluginOptions(
        self, request: pb.Empty, context: Any
    ) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(
            pre_start_required=True, get_preferred_allocation_available=True
        )

    async def ListAndWatch(
        self, request: pb.Empty, context: Any
    ) -> AsyncIterator[pb.ListAndWatchResponse]:
        with self.streams.one():
            sent: tuple[Offer, ...] | None = None
            while True:
                version, now = self._node.version, self.offers()
                if sent is None or _told(now) != _told(sent):
                    self._log(now)
                    yield pb.ListAndWatchResponse(devices=map(_device, now))
                    sent = now
                await self._node.newer(version)

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        # the kubelet may not have heard yet of what was given to another container of the same pod
        by_id = {offer.unit.id: offer.unit for offer in self.offers() if offer.healthy}
        return pb.PreferredAllocationResponse(
            container_responses=[
                pb.ContainerPreferredAllocationResponse(
                    deviceIDs=prefer(
                        asked.available_deviceIDs[:MOST_UNITS],
                        asked.must_include_deviceIDs[:MOST_UNITS],
                        asked.allocation_size,
                        by_id,
                    )
                )
                for asked in request.container_requests
            ]
        )

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        answers = []
        for asked in request.container_requests:
            try:
                answers.append(await self._allocate(asked.devices_ids))
            except FuriosaError as exc:
                ids = ",".join(sorted(asked.devices_ids))
                log.warning("%s: %s is not allocated: %s", self.name, ids, exc)
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(exc))
            except _Unknown as exc:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        return pb.AllocateResponse(container_responses=answers)

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        """What the container was given must still be its own: also after the broker lost its state."""
        try:
            standing = await self._node.reservations()
        except FuriosaError as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
        kept = {i for r in standing if r.manager == self.name for i in ids_of(r)}
        if lost := sorted(set(request.devices_ids) - kept):
            text = (
                f"{', '.join(lost)}: no longer reserved for this pod; delete the pod to start anew"
            )
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        return pb.PreStartContainerResponse()

    async def _allocate(self, ids: Sequence[str]) -> pb.ContainerAllocateResponse:
        """Raises: what the broker says; _Unknown."""
        by_id = {unit.id: unit for unit in self._units()}
        if not ids or not by_id.keys() >= set(ids):
            wanted = ", ".join(sorted(set(ids) - by_id.keys())) or "device asked for"
            raise _Unknown(f"{self.name}: there is no {wanted}")
        chosen = [by_id[id] for id in ids]
        made, grants = await self._node.reserve(files_of(chosen), self.name, label=label_of(ids))
        self._on_allocated(made.id)
        log.info(
            "allocated %s of %s as %s, reservation %s",
            made.label,
            self.name,
            ",".join(map(str, made.device_files)),
            made.id,
        )
        is_only = len(units((), self._settings())) == 1
        return container_answer(self.name, made, grants, chosen, is_only_resource=is_only)

    def _units(self) -> tuple[Unit, ...]:
        return units(self._node.state.cards, self._settings()).get(self.name, ())

    def _log(self, now: Sequence[Offer]) -> None:
        for offer in now:
            before = self._told.get(offer.unit.id)
            if before is None or before.healthy != offer.healthy:
                health = "healthy" if offer.healthy else f"unhealthy: {offer.reason}"
                log.info("%s of %s is %s", offer.unit.id, self.name, health)
        for gone in self._told.keys() - {offer.unit.id for offer in now}:
            log.info("%s of %s is not offered any more", gone, self.name)
        self._told = {offer.unit.id: offer for offer in now}


class _Unknown(Exception):
    """The kubelet asks for what was never offered."""


def _told(found: Sequence[Offer]) -> list[tuple[str, bool, int]]:
    return [(o.unit.id, o.healthy, o.unit.card.numa_node) for o in found]


def _device(offer: Offer) -> pb.Device:
    device = pb.Device(ID=offer.unit.id, health=HEALTHY if offer.healthy else UNHEALTHY)
    if offer.unit.card.numa_node >= 0:
        device.topology.nodes.add(ID=offer.unit.card.numa_node)
    return device
