"""How fast a node tells the kubelet of a broken card, and gives a container its cores."""

import asyncio
import statistics
import time
from collections.abc import Iterator

from benchmarks import broker, kubelet
from benchmarks.efforts import Effort
from benchmarks.figures import Found, beside, single
from furiosa.client import Connection
from furiosa.common.faults import Dead
from furiosa.common.names import DeviceFile
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

CARDS = 64
HEALTH_MS = 100.0
ALLOCATE_MS = 20.0
WAIT_SECONDS = 30.0
# a kubelet admits one pod and then the next: what the last one changed has been told by then
PAUSE_SECONDS = 0.03


def figures(effort: Effort) -> Iterator[Found]:
    rounds = max(effort.rounds // 100, 10)
    with broker.running(2, ("--embedded",), "--health-recovery", "0"):
        yield asyncio.run(_health(rounds))
    with broker.running(CARDS):
        yield from asyncio.run(_allocate(max(effort.rounds // 4, 50)))


async def _health(rounds: int) -> Found:
    """From the order that a card dies to the message that its unit is Unhealthy."""
    times = []
    async with kubelet.plugin() as stub, await Connection.open(client="bench") as connection:
        stream = stub.ListAndWatch(pb.Empty())

        async def until(healthy: int) -> None:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    answer = await stream.read()
                    if sum(device.health == "Healthy" for device in answer.devices) == healthy:
                        return

        await until(2)
        for _ in range(rounds):
            start = time.perf_counter()
            await connection.emulate(DeviceFile.parse("npu1"), Dead())
            await until(1)
            times.append((time.perf_counter() - start) * 1e3)
            await connection.clear_faults()
            await until(2)
        stream.cancel()
    return beside(
        "kubernetes.listandwatch.health",
        times,
        [HEALTH_MS],
        unit="ms",
        against="the bound",
        target=1.0,
        conditions=f"{len(times)} times a virtual card dies; kubelet, plugin and broker are processes",
    )


async def _allocate(rounds: int) -> Iterator[Found]:
    """Allocate of one unit, while 64 cards are free; beside a call that does nothing."""
    allocate, nothing = [], []
    async with kubelet.plugin() as stub, await Connection.open(client="bench") as connection:
        stream = stub.ListAndWatch(pb.Empty())
        while len((await stream.read()).devices) < CARDS:
            continue
        for number in range(rounds):
            unit = f"npu{number % CARDS}pe0-1"
            asked = pb.ContainerAllocateRequest(devices_ids=[unit])
            start = time.perf_counter()
            await stub.Allocate(pb.AllocateRequest(container_requests=[asked]))
            allocate.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            await stub.GetDevicePluginOptions(pb.Empty())
            nothing.append((time.perf_counter() - start) * 1e3)
            for made in await connection.reservations():
                await connection.cancel_reservation(made.id)
            await asyncio.sleep(PAUSE_SECONDS)
        stream.cancel()
    p99 = statistics.quantiles(allocate, n=100)[98]
    conditions = f"{rounds} calls, {CARDS} virtual cards"
    return iter(
        (
            single(
                "kubernetes.allocate.p99",
                p99,
                ALLOCATE_MS,
                unit="ms",
                against="the bound",
                target=1.0,
                conditions=conditions,
            ),
            beside(
                "kubernetes.allocate.p50",
                allocate,
                nothing,
                unit="ms",
                against="GetDevicePluginOptions, a call that does nothing",
                conditions=f"{conditions}, in turn; the broker writes it to the disk first",
            ),
        )
    )
