"""The inherited socket to the broker: calls out, answers and notices in. See handoff.proto."""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Payload

from furiosa.common import channel
from furiosa.common.errors import BrokerUnavailable, FuriosaError
from furiosa.common.failures import error_from_wire
from furiosa.common.names import DeviceFile
from furiosa.common.views import Notice, ProgramView
from furiosa.common.wire import PROTOCOL_VERSION, notice_from_wire, program_from_wire
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.queuepair import BrokenQueue, Descriptors, Geometry

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
ANSWER_SECONDS: Final = 30.0  # the broker itself gives a worker less


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program and the device files that have it."""

    program: ProgramView
    files: tuple[DeviceFile, ...]


class BrokerLink:
    """Takes `sock`. `on_notice` gets each notice; `on_end` is called once when the broker is gone."""

    def __init__(
        self,
        sock: socket.socket,
        on_notice: Callable[[Notice], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_notice = on_notice
        self._on_end = on_end
        self._decoder = channel.Decoder(MAX_ANSWER_BYTES)
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[channel.Message]] = {}
        self._unsent = bytearray()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def hello(self, client: str) -> None:
        """Tell the broker that clients can connect."""
        self._send(pb.Frame(hello=pb.Hello(protocol_version=PROTOCOL_VERSION, client=client)))

    async def describe(self, token: str, lease_id: str, program_id: int) -> Loaded:
        """Raises: NoSession, NotLeaseOwner, UnknownLease, UnknownProgram, ...; BrokerUnavailable."""
        request = pb.DescribeProgramForRequest(
            session_token=token, lease_id=lease_id, program_id=program_id
        )
        answer = await self._call("Session/DescribeProgramFor", request)
        answer.close()
        with self._believing():
            response = pb.DescribeProgramForResponse.FromString(answer.payload)
            return Loaded(
                program_from_wire(response.program),
                tuple(map(DeviceFile.parse, response.device_files)),
            )

    async def open_queue(
        self, token: str, lease_id: str, file: DeviceFile, geometry: Geometry
    ) -> tuple[int, Descriptors]:
        """The queue's id and its descriptors, which are yours. Raises: as `describe`."""
        request = pb.OpenQueueForRequest(
            session_token=token,
            lease_id=lease_id,
            device_file=str(file),
            depth=geometry.depth,
            arena_bytes=geometry.arena_bytes,
        )
        answer = await self._call("Session/OpenQueueFor", request)
        with self._believing(answer):
            response = pb.OpenQueueResponse.FromString(answer.payload)
            return response.queue_id, Descriptors.of(answer.descriptors)

    def close_queue(self, lease_id: str, queue_id: int) -> None:
        """Nobody waits: if it fails, the queue has ended with its lease or its worker."""
        request = pb.CloseQueueRequest(lease_id=lease_id, queue_id=queue_id)
        self._begin("Session/CloseQueue", request).add_done_callback(_drop)

    def close(self) -> None:
        """Calls that wait fail with BrokerUnavailable."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._decoder.close()
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(_gone("the connection ended"))

    async def _call(self, method: str, request: Payload) -> channel.Message:
        future = self._begin(method, request)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            future.add_done_callback(_drop)
            raise _gone(f"no answer to {method} within {ANSWER_SECONDS:g} s") from None
        except asyncio.CancelledError:
            future.add_done_callback(_drop)  # the answer may carry descriptors
            raise

    def _begin(self, method: str, request: Payload) -> "asyncio.Future[channel.Message]":
        future: asyncio.Future[channel.Message] = self._loop.create_future()
        if self._closed:
            future.set_exception(_gone("the connection ended"))
            return future
        number = next(self._ids)
        self._calls[number] = future
        call = pb.Call(method=method, request=request.SerializeToString())
        self._send(pb.Frame(id=number, call=call))
        return future

    @contextlib.contextmanager
    def _believing(self, answer: channel.Message | None = None) -> Iterator[None]:
        """An answer of no sense ends the connection; its descriptors do not leak."""
        try:
            yield
        except (DecodeError, ValueError, FuriosaError, BrokenQueue) as error:
            if answer is not None:
                answer.close()
            self._end(f"an answer makes no sense: {error}")
            raise _gone("an answer makes no sense") from None

    def _send(self, frame: pb.Frame) -> None:
        """No effect when the broker is gone."""
        if self._closed:
            return
        if not self._unsent:
            self._loop.add_writer(self._sock, self._writable)
        self._unsent += channel.encode(frame.SerializeToString())
        self._writable()

    def _writable(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self._end(str(error))
            return
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            data, descriptors = channel.receive(self._sock)
            self._decoder.feed(data, descriptors)
            if not data:
                self._end(None)
                return
            for message in self._decoder.messages():
                self._take(message)
                if self._closed:
                    return
        except BlockingIOError:
            return
        except (channel.BrokenChannel, DecodeError, ValueError, OSError) as error:
            self._end(str(error))

    def _take(self, message: channel.Message) -> None:
        try:
            frame = pb.Frame.FromString(message.payload)
        except DecodeError:
            message.close()
            raise
        kind = frame.WhichOneof("body")
        future = self._calls.pop(frame.id, None)
        if kind == "reply" and future is not None and not future.done():
            future.set_result(channel.Message(frame.reply.response, message.descriptors))
            return
        message.close()
        if kind == "failure" and future is not None and not future.done():
            future.set_exception(error_from_wire(frame.failure))
        elif kind == "notice":
            self._on_notice(notice_from_wire(frame.notice))

    def _end(self, complaint: str | None) -> None:
        """None: it hung up, which is its right."""
        if not self._closed:
            if complaint is not None:
                _log.error("the broker cannot be understood: %s", complaint)
            self.close()
            self._on_end()


def _gone(cause: str) -> BrokerUnavailable:
    return BrokerUnavailable("the inherited socket", cause)


def _drop(future: "asyncio.Future[channel.Message]") -> None:
    """Dispose of an answer that nobody waits for."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()
