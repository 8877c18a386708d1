"""A plugin as the kubelet sees it: its devices, read from the stream, and what can be asked of it."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import grpc

from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc


class Endpoint:
    """One socket of one plugin. `on_change` is called after each list and when the stream has ended."""

    def __init__(self, resource: str, path: Path, on_change: Callable[["Endpoint"], None]) -> None:
        self.resource = resource
        self.path = path
        self.devices: dict[str, pb.Device] = {}
        self.options = pb.DevicePluginOptions()
        self.lists = 0  # how many the plugin has sent
        self.is_open = False
        self._on_change = on_change
        self._channel = grpc.aio.insecure_channel(f"unix:{path}")
        self.stub = rpc.DevicePluginStub(self._channel)
        self._reading: asyncio.Task[None] | None = None

    async def ask_back(self, seconds: float) -> None:
        """What Register does before it answers. Raises: grpc.aio.AioRpcError."""
        self.options = await self.stub.GetDevicePluginOptions(
            pb.Empty(), timeout=seconds, wait_for_ready=True
        )

    def read(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._channel.close()

    async def _read(self) -> None:
        self.is_open = True
        try:
            async for answer in self.stub.ListAndWatch(pb.Empty()):
                self.devices = {device.ID: device for device in answer.devices}
                self.lists += 1
                self._on_change(self)
        except grpc.aio.AioRpcError:
            pass
        finally:
            self.is_open = False
            self._on_change(self)
