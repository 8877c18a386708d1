"""The broker's side of a data plane: real workers behind it, one session, and a client of its service."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from furiosa.common import channel
from furiosa.common.errors import FuriosaError, NoSession
from furiosa.common.failures import failed_to_wire
from furiosa.common.names import DeviceFile
from furiosa.common.status import Failed, from_failed, to_failed
from furiosa.common.views import LeaseEndedNotice, Notice, WorkerDiedNotice
from furiosa.common.wire import notice_to_wire, program_to_wire
from furiosa.dataplane.ports import Ports
from furiosa.dataplane.service import InferenceService
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import inference_pb2_grpc, types_pb2
from furiosa.queuepair import Geometry
from support.workers import Bench

TOKEN = "5e" * 32


@dataclass
class BrokerSide:
    """Answers a data plane's calls from a worker pool. `log` has the methods it was asked."""

    bench: Bench
    sock: socket.socket
    log: list[str] = field(default_factory=list)
    after_open: Notice | None = None  # to be sent right behind the answer to OpenQueueFor
    hello: "asyncio.Future[str]" = field(init=False)
    _decoder: channel.Decoder = field(default_factory=lambda: channel.Decoder(1 << 20))
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self.hello = loop.create_future()
        loop.add_reader(self.sock, self._readable)

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()
        self._decoder.close()
        for task in self._tasks:
            task.cancel()

    def send(self, frame: pb.Frame, *descriptors: int) -> None:
        data = channel.encode(frame.SerializeToString(), descriptors)
        assert channel.send(self.sock, data, descriptors) == len(data)

    def notify(self, notice: Notice) -> None:
        self.send(pb.Frame(notice=notice_to_wire(notice)))

    async def worker_died(self) -> None:
        """Pass on the next death of a worker, as the broker does."""
        self.notify(WorkerDiedNotice(*await self.bench.deaths.get()))

    async def end_lease(self, lease: str) -> None:
        await self.bench.release(lease)
        self.notify(LeaseEndedNotice(lease, "it was released"))

    def _readable(self) -> None:
        data, descriptors = channel.receive(self.sock)
        if not data:
            asyncio.get_running_loop().remove_reader(self.sock)
            return
        self._decoder.feed(data, descriptors)
        for message in self._decoder.messages():
            frame = pb.Frame.FromString(message.payload)
            if frame.WhichOneof("body") == "hello":
                self.hello.set_result(frame.hello.client)
                continue
            self.log.append(frame.call.method)
            task = asyncio.create_task(self._answer(frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, frame: pb.Frame) -> None:
        descriptors: list[int] = []
        try:
            response = await self._handle(frame.call, descriptors)
            reply = pb.Reply(response=response.SerializeToString())
            self.send(pb.Frame(id=frame.id, reply=reply), *descriptors)
            if descriptors and self.after_open is not None:
                self.notify(self.after_open)
        except FuriosaError as error:
            self.send(pb.Frame(id=frame.id, failure=failed_to_wire(to_failed(error))))
        finally:
            for fd in descriptors:
                os.close(fd)

    async def _handle(self, call: pb.Call, descriptors: list[int]) -> Any:
        pool = self.bench.pool
        match call.method:
            case "Session/DescribeProgramFor":
                describe = pb.DescribeProgramForRequest.FromString(call.request)
                self._check(describe.session_token, call.method)
                program = pool.describe(describe.lease_id, describe.program_id)
                files = pool.program_files(describe.lease_id, describe.program_id)
                return pb.DescribeProgramForResponse(
                    program=program_to_wire(program), device_files=map(str, files)
                )
            case "Session/OpenQueueFor":
                wanted = pb.OpenQueueForRequest.FromString(call.request)
                self._check(wanted.session_token, call.method)
                number, opened = await pool.open_queue(
                    wanted.lease_id,
                    DeviceFile.parse(wanted.device_file),
                    Geometry(wanted.depth, wanted.arena_bytes),
                )
                descriptors += opened.as_tuple()
                return pb.OpenQueueResponse(queue_id=number)
            case "Session/CloseQueue":
                closed = pb.CloseQueueRequest.FromString(call.request)
                await pool.close_queue(closed.lease_id, closed.queue_id)
                return pb.CloseQueueResponse()
        raise AssertionError(call.method)

    def _check(self, token: str, method: str) -> None:
        if token != TOKEN:
            raise NoSession(method)


@asynccontextmanager
async def client(path: Path, token: str = TOKEN) -> AsyncIterator[Any]:
    """A stub of service Inference with a session's token."""
    options = [("grpc.primary_user_agent", f"furiosa-session/{token}")] if token else []
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel_:
        yield inference_pb2_grpc.InferenceStub(channel_)


@dataclass
class Plane:
    broker: BrokerSide
    path: Path
    ports: Ports
    broker_gone: asyncio.Event


@asynccontextmanager
async def a_plane(bench: Bench, folder: Path) -> AsyncIterator[Plane]:
    """A data plane in this process."""
    ours, theirs = socket.socketpair()
    broker = BrokerSide(bench, ours)
    gone = asyncio.Event()
    ports = Ports(theirs, gone.set)
    server = grpc.aio.server()
    InferenceService(ports).add_to(server)
    path = folder / "data.sock"
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield Plane(broker, path, ports, gone)
    finally:
        await server.stop(0)
        ports.close()
        broker.close()


def error_in(error: grpc.aio.AioRpcError) -> FuriosaError:
    """The error that came with a failed call, checked against its status code and reason."""
    trailers = {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416  # no dict()
    content = trailers["furiosa-error-bin"]
    assert isinstance(content, bytes)
    detail = types_pb2.ErrorDetail.FromString(content)
    assert trailers["furiosa-reason"] == detail.reason
    found = from_failed(Failed(0, error.details() or "", detail.reason, dict(detail.fields)))
    assert error.code().value[0] == to_failed(found).code
    assert error.details() == str(found)
    return found
