"""Clients of a labgrid coordinator: `python labgrid_client.py HOST:PORT`, with labgrid's Python.

All in one process, each with a connection of its own that is started and subscribed as labgrid-client is.
Speaks the orders of `client.py`; the devices are places, made here.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from labgrid.remote.generated import labgrid_coordinator_pb2 as pb
from labgrid.remote.generated import labgrid_coordinator_pb2_grpc as pb_grpc


@dataclass(frozen=True)
class Client:
    """`stream` is its session: open as long as the client."""

    stub: Any
    stream: Any
    place: str

    async def cycle(self) -> None:
        await self.stub.AcquirePlace(pb.AcquirePlaceRequest(placename=self.place))
        await self.stub.ReleasePlace(pb.ReleasePlaceRequest(placename=self.place))

    async def listen(self) -> None:
        async for _ in self.stream:
            pass

    async def run(self, starts: float, ends: float) -> dict[str, Any]:
        cycles = []
        await asyncio.sleep(max(0.0, starts - time.monotonic()))
        after = time.monotonic()
        while (before := after) < ends:
            await self.cycle()
            after = time.monotonic()
            cycles.append(round((after - before) * 1e6))
        return {"cycles": cycles, "acquires": [], "seconds": after - starts}


async def connect(target: str, number: int) -> Client:
    options = [("grpc.use_local_subchannel_pool", 1)]  # else all would share one connection
    stub = pb_grpc.CoordinatorStub(grpc.aio.insecure_channel(target, options=options))

    async def messages() -> AsyncIterator[Any]:
        yield pb.ClientInMessage(startup=pb.StartupDone(version="0", name=f"host/{number}"))
        yield pb.ClientInMessage(subscribe=pb.Subscribe(all_places=True))
        yield pb.ClientInMessage(subscribe=pb.Subscribe(all_resources=True))
        yield pb.ClientInMessage(sync=pb.Sync(id=1))
        await asyncio.Event().wait()

    stream = stub.ClientStream(messages())
    async for message in stream:
        if message.HasField("sync"):
            break
    client = Client(stub, stream, f"place{number}")
    await stub.AddPlace(pb.AddPlaceRequest(name=client.place))
    return client


async def serve(target: str) -> None:
    clients: list[Client] = []
    listeners = []
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        while (
            len(clients) < order["clients"]
        ):  # no more: the coordinator tells each of every change
            clients.append(await connect(target, len(clients)))
            listeners.append(asyncio.create_task(clients[-1].listen()))
        runs = (client.run(order["starts"], order["ends"]) for client in clients)
        print(json.dumps(await asyncio.gather(*runs)), flush=True)
    for listener in listeners:
        listener.cancel()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
