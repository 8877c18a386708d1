"""Which pods have which devices, as the kubelet knows it: the pod resources API, version 1.

What it tells may be a moment old: a pod that has just been admitted is not listed while its devices are
being allocated, and one whose processes still end may not be any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc

from furiosa.proto.kubelet.podresources.v1 import podresources_pb2 as pb
from furiosa.proto.kubelet.podresources.v1 import podresources_pb2_grpc as rpc

DEFAULT_SOCKET: Final = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
CALL_SECONDS: Final = 5.0
# gRPC would wait up to two minutes before it looks for a kubelet that was away for long
RECONNECT_SECONDS: Final = 1.0
MOST_BYTES: Final = 16 * 1024**2  # of an answer; kubectl's own client takes as much


class PodResourcesUnavailable(Exception):
    """The kubelet does not answer; the text says why."""


@dataclass(frozen=True, slots=True)
class HeldDevices:
    """Devices of a resource that a device plugin offers, which a container has."""

    namespace: str
    pod: str
    container: str
    resource: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimedDevice:
    """A device of a driver of dynamic resource allocation, which a container has by a claim."""

    namespace: str
    pod: str
    container: str
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class PodsDevices:
    held: tuple[HeldDevices, ...]
    claimed: tuple[ClaimedDevice, ...]


class PodResources:
    """The kubelet allows 100 calls a second on a node, of everybody together: ask once in seconds."""

    def __init__(self, socket: Path = DEFAULT_SOCKET) -> None:
        self.socket = socket
        options = (
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.initial_reconnect_backoff_ms", round(RECONNECT_SECONDS * 1000)),
            ("grpc.max_reconnect_backoff_ms", round(RECONNECT_SECONDS * 1000)),
        )
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._stub = rpc.PodResourcesListerStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def list(self) -> PodsDevices:
        """Raises: PodResourcesUnavailable, within CALL_SECONDS."""
        try:
            answer = await self._stub.List(pb.ListPodResourcesRequest(), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as exc:
            text = f"{self.socket}: {exc.code().name}: {exc.details()}"
            raise PodResourcesUnavailable(text) from None
        pods = answer.pod_resources
        return PodsDevices(
            tuple(held for pod in pods for held in _held(pod)),
            tuple(claimed for pod in pods for claimed in _claimed(pod)),
        )


def _held(pod: pb.PodResources) -> Iterator[HeldDevices]:
    for container in pod.containers:
        for devices in container.devices:
            ids = tuple(devices.device_ids)
            yield HeldDevices(pod.namespace, pod.name, container.name, devices.resource_name, ids)


def _claimed(pod: pb.PodResources) -> Iterator[ClaimedDevice]:
    for container in pod.containers:
        for resource in container.dynamic_resources:
            for claim in resource.claim_resources:
                yield ClaimedDevice(
                    pod.namespace,
                    pod.name,
                    container.name,
                    claim.driver_name,
                    claim.pool_name,
                    claim.device_name,
                )
