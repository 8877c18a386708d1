"""A kubelet as plugins see it, in a folder: made from its published interfaces, for tests.

async with FakeKubelet(folder) as kubelet:
    ...start a plugin on kubelet.device_plugins...
    await kubelet.until(lambda: kubelet.allocatable("furiosa.ai/warboy") == 2)
    given = (await kubelet.admit(Pod.of("a", {"furiosa.ai/warboy": 1})))["main"]
    await kubelet.restart()      # wipes the folder of sockets, as a real one does
    kubelet.remove("a")
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import grpc

from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc
from furiosa.proto.kubelet.podresources.v1 import podresources_pb2 as pods_pb
from furiosa.proto.kubelet.podresources.v1 import podresources_pb2_grpc as pods_rpc
from support.kubelet.device_manager import CHECKPOINT, DeviceManager
from support.kubelet.plugin_watcher import PluginWatcher
from support.kubelet.pods import Given, Pod

WAIT_SECONDS = 60.0


class FakeKubelet(pods_rpc.PodResourcesListerServicer):
    """`keyed_by_path`, `ask_back_seconds`: as of DeviceManager.

    `claims`: what `list` of pod resources tells of claims, by pod and container.
    """

    def __init__(
        self, root: Path, *, keyed_by_path: bool = True, ask_back_seconds: float = 10.0
    ) -> None:
        self.device_plugins = root / "device-plugins"
        self.plugins_registry = root / "plugins_registry"
        self.plugins = root / "plugins"
        self.pod_resources = root / "pod-resources" / "kubelet.sock"
        for folder in (self.device_plugins, self.plugins_registry, self.plugins):
            folder.mkdir(parents=True, exist_ok=True)
        self.pod_resources.parent.mkdir(exist_ok=True)
        self.manager = DeviceManager(
            self.device_plugins, keyed_by_path=keyed_by_path, ask_back_seconds=ask_back_seconds
        )
        self.watcher = PluginWatcher(self.plugins_registry, self.manager)
        self.claims: dict[tuple[str, str], list[pods_pb.DynamicResource]] = {}
        self.lists = 0  # how often pods were asked for
        self._servers: list[grpc.aio.Server] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def socket(self) -> Path:
        return self.device_plugins / "kubelet.sock"

    async def start(self) -> None:
        for path in self.device_plugins.iterdir():  # (4)
            if path.name != CHECKPOINT and not path.is_dir():
                path.unlink()
        self.pod_resources.unlink(missing_ok=True)
        await self._serve(
            self.socket,
            lambda s: deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(self.manager, s),
        )
        await self._serve(
            self.pod_resources,
            lambda s: pods_rpc.add_PodResourcesListerServicer_to_server(self, s),
        )
        self.watcher.start()

    async def stop(self) -> None:
        """Pods keep what they have."""
        await self.watcher.stop()
        for server in self._servers:
            await server.stop(0)
        self._servers.clear()
        await self.manager.close()
        self.manager.capacity.clear()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def admit(self, pod: Pod) -> dict[str, Given]:
        """By container. Raises: AdmissionError."""
        return await self.manager.admit(pod)

    async def rerun(self, pod: str) -> None:
        await self.manager.rerun(pod)

    async def begin(self, pod: str, container: str = "main") -> Given:
        return await self.manager.start(pod, container)

    def remove(self, pod: str) -> None:
        self.manager.remove(pod)

    def capacity(self, resource: str) -> int:
        return self.manager.capacity.get(resource, 0)

    def allocatable(self, resource: str) -> int:
        return len(self.manager.healthy(resource))

    def health(self, resource: str) -> dict[str, str]:
        endpoint = self.manager.endpoints.get(resource)
        return {} if endpoint is None else {i: d.health for i, d in endpoint.devices.items()}

    async def until(self, condition: Callable[[], bool]) -> None:
        """After each change of what plugins offer. Raises: TimeoutError."""
        async with asyncio.timeout(WAIT_SECONDS), self.manager.changed:
            while not condition():
                # what does not come from a plugin is looked at now and then
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.manager.changed.wait(), 0.05)

    async def List(
        self, request: pods_pb.ListPodResourcesRequest, context: Any
    ) -> pods_pb.ListPodResourcesResponse:
        """Between admissions. A real one may be asked in the middle of one, for some milliseconds; who asks
        twice within that time, as tests do, learns nothing about plugins.
        """
        async with self.manager.admitting:
            return self._list()

    def _list(self) -> pods_pb.ListPodResourcesResponse:
        self.lists += 1
        pods = []
        for pod in self.manager.pods.values():
            containers = [
                pods_pb.ContainerResources(
                    name=container.name,
                    devices=[
                        pods_pb.ContainerDevices(resource_name=resource, device_ids=ids)
                        for resource, ids in self._given(pod, container.name).ids.items()
                    ],
                    dynamic_resources=self.claims.get((pod.name, container.name), []),
                )
                for container in pod.containers
                if not container.init
            ]
            pods.append(
                pods_pb.PodResources(name=pod.name, namespace=pod.namespace, containers=containers)
            )
        return pods_pb.ListPodResourcesResponse(pod_resources=pods)

    async def Get(
        self, request: pods_pb.GetPodResourcesRequest, context: Any
    ) -> pods_pb.GetPodResourcesResponse:
        everybody = await self.List(pods_pb.ListPodResourcesRequest(), context)
        for pod in everybody.pod_resources:
            if (pod.name, pod.namespace) == (request.pod_name, request.pod_namespace):
                return pods_pb.GetPodResourcesResponse(pod_resources=pod)
        await context.abort(grpc.StatusCode.UNKNOWN, f"pod {request.pod_name} not found")
        raise AssertionError("abort raises")

    async def GetAllocatableResources(
        self, request: pods_pb.AllocatableResourcesRequest, context: Any
    ) -> pods_pb.AllocatableResourcesResponse:
        devices = [
            pods_pb.ContainerDevices(resource_name=resource, device_ids=[id])
            for resource in self.manager.endpoints
            for id in sorted(self.manager.healthy(resource))
        ]
        return pods_pb.AllocatableResourcesResponse(devices=devices)

    def _given(self, pod: Pod, container: str) -> Given:
        return self.manager.given.get((pod.name, container), Given())

    async def _serve(self, path: Path, add: Callable[[grpc.aio.Server], object]) -> None:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add(server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        self._servers.append(server)
