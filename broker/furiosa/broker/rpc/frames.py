"""One connection that speaks frames: calls in, answers and notices out, descriptors both ways.

It is read by the event loop; a call runs as a task of the given group, its answer is queued and written as
the socket takes it. A peer that does not read, floods, or breaks the framing loses the connection, and
nobody else notices.
"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError, Message

from furiosa.broker.rpc.admission import BOUNDS, CALLS
from furiosa.broker.rpc.guard import failure_of
from furiosa.broker.rpc.left import REPEATABLE, WITHDRAWN, Left, Pending
from furiosa.broker.rpc.methods import Call, Method, Prompt, ServerStream, Unary
from furiosa.broker.rpc.outbox import Outbox
from furiosa.broker.rpc.turns import Turns
from furiosa.common import channel
from furiosa.common.channel import BrokenChannel, Decoder, close_all
from furiosa.common.errors import BadArgument, BrokerDraining, FuriosaError, LimitExceeded
from furiosa.common.failures import failed_to_wire
from furiosa.common.views import Notice
from furiosa.common.wire import notice_to_wire
from furiosa.proto.broker.v1 import handoff_pb2 as pb

if TYPE_CHECKING:
    from furiosa.broker.sessions import Session

MAX_REQUEST_BYTES: Final = 64 * 1024  # requests are small; programs come as descriptors
SETTLE_SECONDS: Final = 2.0  # for calls that cannot be made again, when the broker is replaced


class Peer:
    """Takes the socket. Nothing but `on_hello` happens until that returns True for the first frame.

    `on_close` is called once, with the cause, when the connection ends for whatever reason. `session`
    is whose calls these are; None where each request names its own. Peers that share `turns` take turns
    by `turn_of`, who they belong to.
    """

    def __init__(
        self,
        sock: socket.socket,
        methods: Mapping[str, Method],
        group: asyncio.TaskGroup,
        on_hello: Callable[[pb.Frame], bool],
        on_close: Callable[[str], None],
        turns: Turns | None = None,
        turn_of: Hashable = None,
    ) -> None:
        sock.setblocking(False)
        self._turns = Turns() if turns is None else turns
        self._turn_of = turn_of
        self._taking = False  # there are frames that wait for their turn
        self._suspended = False
        self.session: Session | None = None
        self._sock = sock
        self._methods = methods
        self._group = group
        self._on_hello = on_hello
        self._on_close = on_close
        self._greeted = False
        self._closed = False
        self._decoder = Decoder(MAX_REQUEST_BYTES)
        self._outbox = Outbox(sock, self.close)
        self._unclaimed = 0  # descriptors that came ahead of their message
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._underway: dict[int, tuple[float, pb.Frame, Call]] = {}  # of these, and since when
        self._withdrawn: list[Pending] = []  # for a successor
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    async def suspend(self) -> None:
        """Take nothing more from the client, and bring calls underway to an end, in bounded time.

        Calls that a successor can make again are kept for it; others that take too long fail.
        """
        self._suspended = True
        self._loop.remove_reader(self._sock)
        ending: dict[asyncio.Future[Any], int] = {}
        for number, (since, frame, call) in self._unanswered():
            if call.method in WITHDRAWN:
                received, call.received = call.received, []
                self._withdrawn.append(Pending(since, frame.SerializeToString(), received))
                self._calls[number].cancel()
            elif call.method not in REPEATABLE:
                ending[self._calls[number]] = number
        if not ending:
            return
        _, late = await asyncio.wait(ending, timeout=SETTLE_SECONDS)
        for task in late:
            task.cancel()
            self._fail(ending[task], self._underway[ending[task]][2].method, BrokerDraining())
        if late:
            await asyncio.wait(late, timeout=SETTLE_SECONDS)

    @property
    def burden(self) -> tuple[int, int]:
        """Bytes and descriptors that `give_away` has to hand over, besides the socket."""
        pending = self._pending()
        held = [self._decoder.held, self._outbox.held]
        held += [(len(each.frame), len(each.descriptors)) for each in pending]
        return sum(data for data, _ in held), sum(descriptors for _, descriptors in held)

    def give_away(self) -> Left:
        """All that a successor needs; afterwards nothing may run in this process any more that answers
        a call. The end of this one, of which the client notices nothing.
        """
        self._closed = True
        unsent = self._outbox.take()
        return Left(self._sock, self._pending(), self._decoder.take_rest(), unsent)

    def _pending(self) -> list[Pending]:
        """Call `suspend` before."""
        return self._withdrawn + [
            Pending(since, frame.SerializeToString(), [])
            for _, (since, frame, call) in self._unanswered()
            if call.method in REPEATABLE
        ]

    def _unanswered(self) -> Iterator[tuple[int, tuple[float, pb.Frame, Call]]]:
        for number, underway in self._underway.items():
            if not self._calls[number].done():  # else its answer is out, or on its way
                yield number, underway

    def resume(self, session: "Session", left: Left) -> None:
        """Go on where another broker process left off, but for its pending calls; takes descriptors."""
        self._greeted = True
        self.session = session
        self._outbox.restore(left.unsent)
        if left.received[0]:
            self._loop.call_soon(self._received, *left.received)

    def repeat(self, pending: Pending, now: float) -> None:
        """Begin a call anew that another broker process could not finish; takes its descriptors.

        `now` is one moment for all calls that are repeated: it may take a while until the last of them
        is, and they must stay in the order of what they have waited.
        """
        message = channel.Message(b"", tuple(pending.descriptors))
        self._call(pb.Frame.FromString(pending.frame), message, now - pending.since)

    def close(self, cause: str) -> None:
        """No effect the second time."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        for task in self._calls.values():
            task.cancel()
        self._on_close(cause)
        self._decoder.close()
        self._outbox.close()
        while self._withdrawn:
            close_all(self._withdrawn.pop().descriptors)
        with contextlib.suppress(OSError):  # systemd or a child of ours may hold a duplicate
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def notify(self, notice: Notice) -> None:
        self.send(pb.Frame(notice=notice_to_wire(notice)))

    def send(self, frame: pb.Frame, descriptors: list[int] | None = None) -> None:
        """Queue a frame; takes the descriptors."""
        own = descriptors or []
        if self._closed:
            close_all(own)
            return
        self._outbox.put(channel.encode(frame.SerializeToString(), own), own)

    def _readable(self) -> None:
        try:
            data, descriptors = channel.receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return
        except (BrokenChannel, OSError) as exc:
            self.close(str(exc))
            return
        if not data:
            self.close("its process hung up")
            return
        self._received(data, descriptors)

    def _received(self, data: bytes, descriptors: list[int]) -> None:
        if self._closed:
            close_all(descriptors)
            return
        self._decoder.feed(data, descriptors)
        self._unclaimed += len(descriptors)
        if not self._taking:
            self._turns.ready(self._turn_of, self._take_one)

    def _take_one(self) -> bool:
        """Take a frame in, if a whole one is there; whether there may be another. Until there is none
        left nothing more is read: a client that floods waits for its turns like everybody.
        """
        if self._closed or self._suspended:
            return False
        try:
            message = next(self._decoder.messages(), None)
            if message is not None:
                self._unclaimed -= len(message.descriptors)
                self._frame(message)
            if self._unclaimed > (channel.MAX_DESCRIPTORS if self._decoder.has_some else 0):
                raise BrokenChannel(f"{self._unclaimed} descriptors that no message announced")
        except (BrokenChannel, DecodeError) as exc:
            self.close(f"broken framing: {exc}")
            return False
        more = message is not None and self._decoder.has_some
        if more != self._taking and not self._closed:
            self._taking = more
            if more:
                self._loop.remove_reader(self._sock)
            else:
                self._loop.add_reader(self._sock, self._readable)
        return more and not self._closed

    def _frame(self, message: channel.Message) -> None:
        try:
            frame = pb.Frame.FromString(message.payload)
        except DecodeError:
            message.close()
            raise
        kind = frame.WhichOneof("body")
        if self._greeted and kind == "call":
            self._call(frame, message)
            return
        message.close()
        if not self._greeted:
            self._greeted = self._on_hello(frame)
        elif kind == "cancel":
            if task := self._calls.get(frame.id):
                task.cancel()
        else:
            self.close(f"an unexpected {kind} frame")

    def _call(self, frame: pb.Frame, message: channel.Message, waited: float = 0.0) -> None:
        name = frame.call.method
        call = Call(name, self.session, list(message.descriptors), id=frame.id, waited=waited)
        method = self._methods.get(name)
        if not isinstance(method, Unary | Prompt | ServerStream):
            self._refuse(frame.id, call, BadArgument("method", repr(name), "one of handoff.proto"))
        elif frame.id == 0 or frame.id in self._calls:
            expected = "a number that no open call has"
            self._refuse(frame.id, call, BadArgument("frame id", str(frame.id), expected))
        elif len(self._calls) >= CALLS.each:
            limit = LimitExceeded(CALLS.name, len(self._calls) + 1, CALLS.each)
            self._refuse(frame.id, call, limit)
        elif not isinstance(method, Prompt) and (excess := self._excess(name)) is not None:
            self._refuse(frame.id, call, excess)
        else:
            surplus = call.received[method.takes :]
            del call.received[method.takes :]
            close_all(surplus)
            if isinstance(method, Prompt):
                self._answer_promptly(frame, method, call)
                return
            run = self._answer(frame.id, frame.call.request, method, call)
            task = self._group.create_task(run)
            self._calls[frame.id] = task
            self._underway[frame.id] = (self._loop.time() - waited, frame, call)
            # not left to the task itself: one that is cancelled before it starts never runs
            task.add_done_callback(lambda _: self._ended(frame.id, call))

    def _excess(self, name: str) -> LimitExceeded | None:
        """Whether there are enough already of calls that cost more than their place."""
        bound = BOUNDS.get(name)
        used = sum(BOUNDS.get(call.method) is bound for _, _, call in self._underway.values())
        if bound is None or used < bound.each:
            return None
        return LimitExceeded(f"{bound.name} of one caller", used + 1, bound.each)

    def _answer_promptly(self, frame: pb.Frame, method: Prompt, call: Call) -> None:
        """Without a task, which would cost as much as the call itself."""
        try:
            answer = method.handler(method.request.FromString(frame.call.request), call)
        except DecodeError as exc:
            self._fail(frame.id, call.method, BadArgument("request", str(exc), call.method))
        except Exception as exc:  # the boundary: every error becomes a failure
            self._fail(frame.id, call.method, exc)
        else:
            if isinstance(answer, Message):
                self._reply(frame.id, answer, call)
            else:
                self._calls[frame.id] = answer
                self._underway[frame.id] = (self._loop.time() - call.waited, frame, call)
                answer.add_done_callback(functools.partial(self._settled, frame.id, call))

    def _settled(self, frame_id: int, call: Call, answer: "asyncio.Future[Message]") -> None:
        if not answer.cancelled():
            if (exc := answer.exception()) is None:
                self._reply(frame_id, answer.result(), call)
            elif isinstance(exc, Exception):
                self._fail(frame_id, call.method, exc)
        self._ended(frame_id, call)

    def _ended(self, frame_id: int, call: Call) -> None:
        del self._calls[frame_id], self._underway[frame_id]
        close_all(call.received)
        close_all(call.attached)

    def _refuse(self, frame_id: int, call: Call, error: FuriosaError) -> None:
        close_all(call.received)
        self._fail(frame_id, call.method, error)

    async def _answer(
        self, frame_id: int, payload: bytes, method: Unary | ServerStream, call: Call
    ) -> None:
        try:
            request = method.request.FromString(payload)
            if isinstance(method, Unary):
                response = await method.handler(request, call)
                received, call.received = call.received, []
                close_all(received)  # before the answer: then the caller knows they are gone
                self._reply(frame_id, response, call)
            else:
                async for response in method.handler(request, call):
                    self._reply(frame_id, response, call)
                self.send(pb.Frame(id=frame_id, end=pb.End()))
        except asyncio.CancelledError:
            pass  # by the caller, who wants no answer, or by close
        except DecodeError as exc:
            self._fail(frame_id, call.method, BadArgument("request", str(exc), call.method))
        except Exception as exc:  # the boundary: every error becomes a failure
            self._fail(frame_id, call.method, exc)

    def _reply(self, frame_id: int, response: Message, call: Call) -> None:
        attached, call.attached = call.attached, []
        reply = pb.Reply(response=response.SerializeToString())
        self.send(pb.Frame(id=frame_id, reply=reply), attached)

    def _fail(self, frame_id: int, method: str, exc: Exception) -> None:
        failure = failed_to_wire(failure_of(method, exc))
        self.send(pb.Frame(id=frame_id, failure=failure))
