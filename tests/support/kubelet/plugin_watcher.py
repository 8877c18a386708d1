"""The part of the fake kubelet that finds plugins by their sockets in its plugins_registry folder (9)."""

import asyncio
import contextlib
from pathlib import Path

import grpc

from furiosa.proto.kubelet.registration.v1 import registration_pb2 as pb
from furiosa.proto.kubelet.registration.v1 import registration_pb2_grpc as rpc
from support.kubelet.device_manager import DeviceManager

LOOK_SECONDS = 0.02


class PluginWatcher:
    """`found`: what plugins said of themselves, by socket. DRA plugins are only known, by name, with the
    path of their endpoint.
    """

    def __init__(self, folder: Path, manager: DeviceManager) -> None:
        self.folder = folder
        self.found: dict[Path, pb.PluginInfo] = {}
        self.drivers: dict[str, Path] = {}
        self.refuse = ""  # what to tell plugins instead of taking them
        self._manager = manager
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        self.found.clear()
        self.drivers.clear()

    async def _look(self) -> None:
        while True:
            there = {path for path in self.folder.iterdir() if path.is_socket()}
            for path in set(self.found) - there:
                info = self.found.pop(path)
                if self.drivers.get(info.name) == Path(info.endpoint):
                    del self.drivers[info.name]
            for path in there - set(self.found):
                with contextlib.suppress(grpc.aio.AioRpcError):  # it is tried again
                    await self._take(path)
                await self._manager.tell()
            await asyncio.sleep(LOOK_SECONDS)

    async def _take(self, path: Path) -> None:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            stub = rpc.RegistrationStub(channel)
            info = await stub.GetInfo(pb.InfoRequest(), timeout=2)
            error = self.refuse
            if not error and info.type == "DevicePlugin":
                try:
                    await self._manager.take(info.name, Path(info.endpoint))
                except grpc.aio.AioRpcError as exc:
                    error = f"failed to dial device plugin: {exc.details()}"
            status = pb.RegistrationStatus(plugin_registered=not error, error=error)
            await stub.NotifyRegistrationStatus(status, timeout=2)
            self.found[path] = info
            if not error and info.type == "DRAPlugin":
                self.drivers[info.name] = Path(info.endpoint)
