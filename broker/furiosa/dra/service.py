"""The driver as the kubelet calls it, under each name that its services have had."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from furiosa.agent import Node
from furiosa.common.views import Availability, Health
from furiosa.dra.claims import Claims, NotPrepared, told
from furiosa.proto.kubelet.dra.v1 import dra_pb2 as pb

log = logging.getLogger(__name__)

_LONG: Final = "k8s.io.kubelet.pkg.apis"
SUPPORTED: Final = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1alpha1.DRAResourceHealth")
_PLUGIN: Final = (*SUPPORTED[:2], f"{_LONG}.dra.v1.DRAPlugin", f"{_LONG}.dra.v1beta1.DRAPlugin")
_HEALTH: Final = (SUPPORTED[2], f"{_LONG}.dra_health.v1alpha1.DRAResourceHealth")


class Driver:
    """One claim after the other: what they need is done in milliseconds."""

    def __init__(self, claims: Claims, node: Node, node_name: str) -> None:
        self._claims = claims
        self._node = node
        self._node_name = node_name
        self._one = asyncio.Lock()

    def add(self, server: grpc.aio.Server) -> None:
        plugin: dict[str, Any] = {
            "NodePrepareResources": _unary(self.prepare, pb.NodePrepareResourcesRequest),
            "NodeUnprepareResources": _unary(self.unprepare, pb.NodeUnprepareResourcesRequest),
        }
        health: dict[str, Any] = {
            "NodeWatchResources": grpc.unary_stream_rpc_method_handler(
                self.watch,
                request_deserializer=pb.NodeWatchResourcesRequest.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        }
        server.add_generic_rpc_handlers(
            [
                *(grpc.method_handlers_generic_handler(name, plugin) for name in _PLUGIN),
                *(grpc.method_handlers_generic_handler(name, health) for name in _HEALTH),
            ]
        )

    async def prepare(
        self, request: pb.NodePrepareResourcesRequest, context: Any
    ) -> pb.NodePrepareResourcesResponse:
        results: dict[str, Sequence[pb.Device] | NotPrepared] = {}
        for claim in request.claims:
            async with self._one:
                try:
                    results[claim.uid] = await self._claims.prepare(claim)
                except NotPrepared as exc:
                    results[claim.uid] = exc
        return told(results)

    async def unprepare(
        self, request: pb.NodeUnprepareResourcesRequest, context: Any
    ) -> pb.NodeUnprepareResourcesResponse:
        response = pb.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            async with self._one:
                response.claims[claim.uid].SetInParent()
                try:
                    await self._claims.unprepare(claim)
                except NotPrepared as exc:
                    response.claims[claim.uid].error = str(exc)
        return response

    async def watch(
        self, request: pb.NodeWatchResourcesRequest, context: Any
    ) -> AsyncIterator[pb.NodeWatchResourcesResponse]:
        sent: list[tuple[str, bool]] | None = None
        while True:
            version, now = self._node.version, self._health()
            if now != sent:
                yield self._told(now)
                sent = now
            await self._node.newer(version)

    def _health(self) -> list[tuple[str, bool]]:
        return [
            (
                str(file),
                card.health is Health.ALIVE and card.availability is not Availability.UNAVAILABLE,
            )
            for card in self._node.state.cards
            for file in card.device_files
            if not file.cores.is_all
        ]

    def _told(self, health: Sequence[tuple[str, bool]]) -> pb.NodeWatchResourcesResponse:
        at = int(time.time())
        return pb.NodeWatchResourcesResponse(
            devices=[
                pb.DeviceHealth(
                    device=pb.DeviceIdentifier(pool_name=self._node_name, device_name=name),
                    health=pb.HealthStatus.HEALTHY if is_well else pb.HealthStatus.UNHEALTHY,
                    last_updated_time=at,
                )
                for name, is_well in health
            ]
        )


def _unary(handler: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
