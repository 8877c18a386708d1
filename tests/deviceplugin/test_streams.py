"""Kubelets that read slowly, not at all, or twice; and nodes that change under the plugin."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.client import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.deviceplugin import config_file
from furiosa.deviceplugin.settings import ORIGINAL_RESOURCE
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc
from support.daemon import Daemon
from support.kubelet.fake import FakeKubelet
from support.kubelet.pods import Pod

NPU = ORIGINAL_RESOURCE
Run = Callable[..., "asyncio.Task[object]"]


def healthy(answer: pb.ListAndWatchResponse) -> int:
    return sum(device.health == "Healthy" for device in answer.devices)


async def offered(kubelet: FakeKubelet, count: int) -> None:
    await kubelet.until(lambda: kubelet.allocatable(NPU) == count == kubelet.capacity(NPU))


async def until(stream: Any, count: int) -> None:
    async with asyncio.timeout(60):
        while healthy(await stream.read()) != count:
            continue


async def test_every_stream_is_told_and_one_that_nobody_reads_holds_up_no_other(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    path = kubelet.manager.endpoints[NPU].path
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        stub: Any = rpc.DevicePluginStub(channel)
        second, hung, slow = (stub.ListAndWatch(pb.Empty()) for _ in range(3))
        await until(second, 2)
        await until(slow, 2)
        for _ in range(20):
            lease = await broker.acquire(DeviceSpec.parse("npu1pe0"))
            await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
            await until(second, 1)
            await broker.release(lease.id)
            await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
            await until(second, 2)
        await kubelet.admit(Pod.of("p", {NPU: 1}))
        await until(slow, 1)
        await until(slow, 2)
        hung.cancel()
        second.cancel()
        slow.cancel()
    await kubelet.rerun("p")


async def test_what_is_the_same_is_not_told_again(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    before = kubelet.manager.endpoints[NPU].lists
    lease = await broker.acquire(DeviceSpec.parse("npu1pe0"))
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
    other = await broker.acquire(DeviceSpec.parse("npu1pe1"))  # of the same unit
    await broker.release(other.id)
    await broker.release(lease.id)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    assert kubelet.manager.endpoints[NPU].lists == before + 2


async def test_cards_that_come_later_are_offered(
    kubelet: FakeKubelet, run: Run, daemon: Daemon
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    for cards in (3, 1):
        daemon.signal(signal.SIGTERM)
        await asyncio.to_thread(daemon.wait)
        daemon.set("--emulate", str(cards))
        await asyncio.to_thread(daemon.start)
        await offered(kubelet, cards)


async def test_settings_that_change_change_what_is_offered(
    kubelet: FakeKubelet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_file, "LOOK_SECONDS", 0.01)
    file = tmp_path / "config.yaml"

    def write(text: str) -> None:
        common = (
            f"pluginDir: {kubelet.device_plugins}\npodResourcesSocket: {kubelet.pod_resources}\n"
        )
        (tmp_path / "fresh").write_text(common + text)
        (tmp_path / "fresh").replace(file)

    write("defaultPe: Fusion\n")
    run(file=file)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    given = (await kubelet.admit(Pod.of("p", {NPU: 1})))["main"]
    (mine,) = given.ids[NPU]
    write("defaultPe: Single\ndisabledDevices: [{devName: npu0pe0, nodeName: other}]\n")
    await kubelet.until(lambda: kubelet.capacity(NPU) == 4)
    assert kubelet.allocatable(NPU) == 2, "the pod keeps its pair"
    assert not [id for id in kubelet.manager.healthy(NPU) if id.startswith(mine[:4])]
    free = next(iter(sorted(kubelet.manager.healthy(NPU))))
    write(f"defaultPe: Single\ndisabledDevices: [{{devName: {free}, nodeName: node}}]\n")
    await kubelet.until(lambda: kubelet.capacity(NPU) == 3 and kubelet.allocatable(NPU) == 1)
