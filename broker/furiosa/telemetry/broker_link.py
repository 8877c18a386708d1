"""The inherited socket to the broker: questions, each asked once however many want to know the answer."""

import asyncio
import itertools
import socket
import time
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from furiosa.common import channel
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.failures import error_from_wire
from furiosa.common.wire import PROTOCOL_VERSION
from furiosa.proto.broker.v1 import handoff_pb2 as pb

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
# An answer this young is given to the next who asks: strangers at full speed cost the broker little.
FRESH_SECONDS: Final = 0.25
_QUESTION: Final = Empty().SerializeToString()


class BrokerLink:
    """Takes `sock`. `run` it; what is asked meanwhile fails with BrokerUnavailable when it ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._writer: asyncio.StreamWriter | None = None
        self._ids = itertools.count(1)
        self._calls: dict[int, str] = {}  # methods by id
        self._asked: dict[str, asyncio.Future[bytes]] = {}  # by method
        self._known: dict[str, tuple[float, bytes]] = {}  # by method; since when

    async def run(self) -> None:
        """Say hello, then take answers until the broker hangs up.

        Raises: BrokenChannel, DecodeError when it makes no sense.
        """
        reader, writer = await asyncio.open_unix_connection(sock=self._sock)
        self._writer = writer
        self._send(
            pb.Frame(hello=pb.Hello(protocol_version=PROTOCOL_VERSION, client="furiosa-telemetry"))
        )
        decoder = channel.Decoder(MAX_ANSWER_BYTES)
        try:
            while data := await reader.read(65_536):
                decoder.feed(data)
                for message in decoder.messages():
                    self._take(pb.Frame.FromString(message.payload))
        except ConnectionError:
            pass
        finally:
            self._writer = None
            writer.close()
            for answer in self._asked.values():
                answer.set_exception(_gone("it is gone"))
            self._asked.clear()

    async def metrics(self, seconds: float) -> bytes:
        """The broker's numbers, for `exposition`. Raises: BrokerUnavailable, within `seconds`."""
        return BytesValue.FromString(await self._ask("Telemetry/Metrics", seconds)).value

    async def unready(self, seconds: float) -> str:
        """Why the broker grants nothing now; empty when it does. Raises: as `metrics`."""
        return StringValue.FromString(await self._ask("Telemetry/Unready", seconds)).value

    async def _ask(self, method: str, seconds: float) -> bytes:
        since, payload = self._known.get(method, (-FRESH_SECONDS, b""))
        if time.monotonic() - since < FRESH_SECONDS:
            return payload
        if self._writer is None:
            raise _gone("it is gone")
        if method not in self._asked:
            number = next(self._ids)
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
            self._calls[number], self._asked[method] = method, answer
            self._send(pb.Frame(id=number, call=pb.Call(method=method, request=_QUESTION)))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._asked[method])
        except TimeoutError:
            raise _gone(f"no answer within {seconds:g} s") from None

    def _send(self, frame: pb.Frame) -> None:
        """Not waited for: there is never more on its way than one call of each method."""
        assert self._writer is not None
        self._writer.write(channel.encode(frame.SerializeToString()))

    def _take(self, frame: pb.Frame) -> None:
        method = self._calls.pop(frame.id, None)
        if method is None:
            return
        answer = self._asked.pop(method)
        if frame.WhichOneof("body") == "reply":
            self._known[method] = time.monotonic(), frame.reply.response
            answer.set_result(frame.reply.response)
        else:
            answer.set_exception(error_from_wire(frame.failure))


def _gone(cause: str) -> BrokerUnavailable:
    return BrokerUnavailable("the inherited socket", cause)


def _seen(answer: "asyncio.Future[bytes]") -> None:
    """It may be that nobody waits any more."""
    if not answer.cancelled():
        answer.exception()
