"""The smallest device plugin: what it does is what the test says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from furiosa.kubelet import Plugin, Streams
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc


class TinyPlugin(rpc.DevicePluginServicer):
    """`refusal`: what Allocate and GetPreferredAllocation fail with."""

    def __init__(self, resource: str = "example.com/thing", *ids: str) -> None:
        self.resource = resource
        self.health = dict.fromkeys(ids or ("a", "b"), "Healthy")
        self.streams = Streams()
        self.refusal = ""
        self.allocated: list[list[str]] = []
        self.envs: dict[str, str] = {}
        self._news = asyncio.Condition()

    def plugin(self, *, prefers: bool = False, pre_start: bool = False) -> Plugin:
        self._prefers, self._pre_start = prefers, pre_start
        return Plugin(self.resource, self.add, "tiny", self.streams, pre_start, prefers)

    def add(self, server: grpc.aio.Server) -> None:
        rpc.add_DevicePluginServicer_to_server(self, server)

    async def set(self, **health: str) -> None:
        async with self._news:
            self.health |= health
            self._news.notify_all()

    async def GetDevicePluginOptions(
        self, request: pb.Empty, context: Any
    ) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(
            pre_start_required=self._pre_start, get_preferred_allocation_available=self._prefers
        )

    async def ListAndWatch(
        self, request: pb.Empty, context: Any
    ) -> AsyncIterator[pb.ListAndWatchResponse]:
        with self.streams.one():
            while True:
                devices = [pb.Device(ID=id, health=health) for id, health in self.health.items()]
                yield pb.ListAndWatchResponse(devices=devices)
                async with self._news:
                    await self._news.wait()

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        if self.refusal:
            await context.abort(grpc.StatusCode.INTERNAL, self.refusal)
        (asked,) = request.container_requests
        best = sorted(asked.available_deviceIDs)[: asked.allocation_size]
        return pb.PreferredAllocationResponse(
            container_responses=[pb.ContainerPreferredAllocationResponse(deviceIDs=best)]
        )

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        if self.refusal:
            await context.abort(grpc.StatusCode.INTERNAL, self.refusal)
        (asked,) = request.container_requests
        self.allocated.append(list(asked.devices_ids))
        return pb.AllocateResponse(
            container_responses=[pb.ContainerAllocateResponse(envs=self.envs)]
        )

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        if self.refusal:
            await context.abort(grpc.StatusCode.INTERNAL, self.refusal)
        return pb.PreStartContainerResponse()
