"""The part of the fake kubelet that knows plugins and gives devices to pods.

The numbers in comments are those of the behaviours that were measured on a real one.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import grpc

from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc
from support.kubelet.endpoints import Endpoint
from support.kubelet.pods import AdmissionError, Given, Pod

CHECKPOINT = "kubelet_internal_checkpoint"
HEALTHY = "Healthy"


class DeviceManager(rpc.RegistrationServicer):
    """`keyed_by_path`: as newer kubelets do; else the end of an old instance of a plugin ends the new (8)."""

    def __init__(self, folder: Path, *, keyed_by_path: bool, ask_back_seconds: float) -> None:
        self.folder = folder
        self.keyed_by_path = keyed_by_path
        self.ask_back_seconds = ask_back_seconds
        self.endpoints: dict[str, Endpoint] = {}  # the one in use, by resource
        self.old: list[Endpoint] = []
        self.capacity: dict[str, int] = {}
        self.pods: dict[str, Pod] = {}
        self.given: dict[tuple[str, str], Given] = {}  # by pod and container
        self.registrations = 0
        self.refusals: list[str] = []  # of plugins that wanted to register
        self.changed = asyncio.Condition()
        # held from the first word to a plugin until what it gave is noted down
        self.admitting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # Plugins

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        if request.version != "v1beta1":
            await self._refuse(context, f"unsupported version {request.version!r}")
        if "/" not in request.resource_name:
            await self._refuse(context, f"invalid resource name {request.resource_name!r}")
        try:
            await self.take(request.resource_name, self.folder / request.endpoint)
        except grpc.aio.AioRpcError as exc:  # (1): nobody answers there
            await self._refuse(context, f"failed to dial device plugin: {exc.details()}")
        return pb.Empty()

    async def take(self, resource: str, path: Path) -> None:
        """Raises: grpc.aio.AioRpcError."""
        endpoint = Endpoint(resource, path, self._changed)
        try:
            await endpoint.ask_back(self.ask_back_seconds)
        except BaseException:
            await endpoint.close()
            raise
        before = self.endpoints.get(resource)
        self.endpoints[resource] = endpoint
        if before is not None:
            if self.keyed_by_path:
                await before.close()
            else:
                self.old.append(before)
        self.registrations += 1
        endpoint.read()
        await self.tell()

    def _changed(self, endpoint: Endpoint) -> None:
        resource = endpoint.resource
        current = self.endpoints.get(resource)
        if endpoint is current:
            if endpoint.is_open:
                self.capacity[resource] = len(endpoint.devices)
        elif not endpoint.is_open and endpoint in self.old and current is not None:
            self.old.remove(endpoint)  # (8): what is said of the old one is taken for the new one
            self._later(current.close())
            self._later(endpoint.close())
        self._later(self.tell())

    def healthy(self, resource: str) -> set[str]:
        """(5): none of a plugin that is gone."""
        endpoint = self.endpoints.get(resource)
        if endpoint is None or not endpoint.is_open:
            return set()
        return {id for id, device in endpoint.devices.items() if device.health == HEALTHY}

    # Pods

    async def admit(self, pod: Pod) -> dict[str, Given]:
        """What each container was given. Raises: AdmissionError."""
        async with self.admitting:
            return await self._admit(pod)

    async def _admit(self, pod: Pod) -> dict[str, Given]:
        self.pods[pod.name] = pod
        reusable: dict[str, set[str]] = {}
        try:
            for container in sorted(pod.containers, key=lambda c: not c.init):
                given = Given()
                self.given[pod.name, container.name] = given
                for resource, count in container.limits.items():
                    await self._allocate(pod, resource, count, given, reusable)
                if container.init:
                    for resource, ids in given.ids.items():
                        reusable.setdefault(resource, set()).update(ids)
        except AdmissionError:
            self.remove(pod.name)
            raise
        self.checkpoint()
        return {c.name: self.given[pod.name, c.name] for c in pod.containers}

    async def rerun(self, pod: str) -> None:
        """Its containers are started again, e.g. after a restart of the kubelet: nothing is allocated anew.

        Raises: AdmissionError.
        """
        for container in self.pods[pod].containers:
            for resource, ids in self.given[pod, container.name].ids.items():
                if not set(ids) <= self.healthy(resource):  # (6)
                    raise AdmissionError(f"{resource}: an allocated device is unhealthy")

    async def start(self, pod: str, container: str = "main") -> Given:
        """As before each start of a container. Raises: AdmissionError."""
        given = self.given[pod, container]
        for resource, ids in given.ids.items():
            endpoint = self._endpoint(resource)
            if endpoint.options.pre_start_required:
                try:
                    await endpoint.stub.PreStartContainer(
                        pb.PreStartContainerRequest(devices_ids=ids), timeout=30
                    )
                except grpc.aio.AioRpcError as exc:
                    raise AdmissionError(f"PreStartContainer: {exc.details()}") from None
        return given

    def remove(self, pod: str) -> None:
        """There is no Deallocate: the plugin is not told."""
        for container in self.pods.pop(pod).containers:
            self.given.pop((pod, container.name), None)
        self.checkpoint()

    def checkpoint(self) -> None:
        entries = [
            {
                "PodUID": pod,
                "ContainerName": container,
                "ResourceName": resource,
                "DeviceIDs": {"-1": ids},
            }
            for (pod, container), given in self.given.items()
            for resource, ids in given.ids.items()
        ]
        (self.folder / CHECKPOINT).write_text(
            json.dumps(
                {"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 0}
            )
        )

    def in_use(self, resource: str) -> set[str]:
        return {id for given in self.given.values() for id in given.ids.get(resource, ())}

    async def _allocate(
        self,
        pod: Pod,
        resource: str,
        count: int,
        given: Given,
        reusable: dict[str, set[str]],
    ) -> None:
        endpoint = self._endpoint(resource)
        again = reusable.get(resource, set())
        free = self.healthy(resource) - self.in_use(resource) | again
        if len(free) < count:
            raise AdmissionError(f"Insufficient {resource}: {count} wanted, {len(free)} available")
        chosen = list(again)[:count]
        if endpoint.options.get_preferred_allocation_available:
            chosen = await self._preferred(endpoint, free, chosen, count)
        rest = [id for id in free if id not in chosen]
        random.shuffle(rest)
        ids = (chosen + rest)[:count]
        random.shuffle(ids)  # (2)
        asked = pb.AllocateRequest(
            container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)]
        )
        try:
            answer = await endpoint.stub.Allocate(asked)
        except grpc.aio.AioRpcError as exc:  # (3)
            text = f"Allocate failed due to {exc.details()}, which is unexpected"
            raise AdmissionError(f"UnexpectedAdmissionError: {text}") from None
        (response,) = answer.container_responses
        given.ids[resource] = tuple(ids)
        self._merge(given, response)

    async def _preferred(
        self, endpoint: Endpoint, free: set[str], must: list[str], count: int
    ) -> list[str]:
        request = pb.ContainerPreferredAllocationRequest(
            available_deviceIDs=free, must_include_deviceIDs=must, allocation_size=count
        )
        try:
            answer = await endpoint.stub.GetPreferredAllocation(
                pb.PreferredAllocationRequest(container_requests=[request])
            )
        except grpc.aio.AioRpcError as exc:  # (3)
            raise AdmissionError(f"GetPreferredAllocation failed: {exc.details()}") from None
        if not answer.container_responses:
            return must
        wanted = list(answer.container_responses[0].deviceIDs)
        return [id for id in wanted if id in free][:count]

    def _merge(self, given: Given, response: pb.ContainerAllocateResponse) -> None:
        """(7): of two values of one key one is dropped; CDI names survive."""
        for mine, theirs in (
            (given.envs, dict(response.envs)),
            (given.annotations, dict(response.annotations)),
            (given.mounts, {m.container_path: m.host_path for m in response.mounts}),
            (given.device_nodes, {d.container_path: d.host_path for d in response.devices}),
        ):
            for key, value in theirs.items():
                if mine.setdefault(key, value) != value:
                    given.lost.append(key)
        given.cdi_devices += [device.name for device in response.cdi_devices]

    def _endpoint(self, resource: str) -> Endpoint:
        endpoint = self.endpoints.get(resource)
        if endpoint is None:
            raise AdmissionError(f"Insufficient {resource}: nobody offers it")
        return endpoint

    # Ends and waiting

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def close(self) -> None:
        for endpoint in (*self.endpoints.values(), *self.old):
            await endpoint.close()
        self.endpoints.clear()
        self.old.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refuse(self, context: Any, text: str) -> None:
        self.refusals.append(text)
        await context.abort(grpc.StatusCode.UNKNOWN, text)
