"""The kubelet's side of a device plugin: it is registered here, read and asked, each as fast as can be."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc

START_SECONDS = 30.0
PLUGIN = (sys.executable, "-m", "furiosa.deviceplugin")


class _Registration(rpc.RegistrationServicer):
    def __init__(self) -> None:
        self.endpoint = asyncio.get_running_loop().create_future()

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        if not self.endpoint.done():
            self.endpoint.set_result(request.endpoint)
        return pb.Empty()


def _started(folder: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [*PLUGIN, "--plugin-dir", folder, "--pod-resources-socket", f"{folder}/none"]
    with Path(folder, "log").open("wb") as log:
        return subprocess.Popen([*command, *arguments], stderr=log, env=os.environ)


@contextlib.asynccontextmanager
async def plugin(*arguments: str) -> AsyncIterator[Any]:
    """A device plugin in a process of its own, with the broker that FURIOSA_BROKER says."""
    with tempfile.TemporaryDirectory(prefix="furiosa-bench-") as folder:
        server = grpc.aio.server()
        registration = _Registration()
        rpc.add_RegistrationServicer_to_server(registration, server)
        server.add_insecure_port(f"unix:{folder}/kubelet.sock")
        await server.start()
        process = _started(folder, arguments)
        try:
            async with asyncio.timeout(START_SECONDS):
                endpoint = await registration.endpoint
            async with grpc.aio.insecure_channel(f"unix:{folder}/{endpoint}") as channel:
                yield rpc.DevicePluginStub(channel)
        finally:
            process.terminate()
            process.wait(START_SECONDS)
            await server.stop(0)
