"""One session with a broker: frames on the handoff socket, shared by all callers of a connection.

Everything that changes state happens under one lock and never waits; all waiting is in `_wait`, where
one caller reads for all (see `_core.turns`). A Ctrl-C can come between any two steps of the blocking
twin: whatever it might leave half done ends the session by name instead of hanging it.
"""

import contextlib
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from socket import socket
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Payload

from furiosa.client import deathnote
from furiosa.client._async import io
from furiosa.client._core.inbox import GREETING, STREAM, Call, Inbox
from furiosa.client._core.request import ANSWER_SECONDS, Undo
from furiosa.client._core.stream import Ended, Stream
from furiosa.client._core.turns import Turns, Waiter
from furiosa.common.channel import BrokenChannel, close_all
from furiosa.common.errors import BrokerUnavailable, FuriosaError
from furiosa.common.failures import error_from_wire
from furiosa.common.views import LeaseNotice, QueuedNotice
from furiosa.common.wire import PROTOCOL_VERSION
from furiosa.proto.broker.v1 import handoff_pb2, leases_pb2

SETTLE_SECONDS: Final = 1.0  # for taking back what a cancelled call may have done


class Session:
    """Owns the socket. After `greet` any number of tasks may `call` and `wait` at once."""

    def __init__(self, sock: socket, address: str) -> None:
        self.welcome = handoff_pb2.Welcome()
        self._address = address
        self._stream = Stream(sock)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._arrived = poll.poll  # under the lock: it refuses a second thread
        self._turns = Turns()
        self._inbox = Inbox()
        self._abandoned: deque[Call] = deque()  # streams that are yet to be cancelled
        self._ended: str | None = None
        self._note: deathnote.DeathNote | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    async def greet(self, client: str) -> None:
        """Say hello and, from the main thread, arm the death notice. Raises: what the broker says."""
        hello = handoff_pb2.Hello(protocol_version=PROTOCOL_VERSION, client=client)
        call = Call("hello", GREETING)
        self._post(call, handoff_pb2.Frame(hello=hello), ())
        try:
            frame, (memory,) = await self._answer(call, ANSWER_SECONDS, 1)
        except BaseException:
            self._drop(call)
            raise
        self.welcome = frame.welcome
        try:
            self._note = deathnote.arm(memory)
        finally:
            os.close(memory)
        if self._note is not None:
            request = handoff_pb2.ArmDeathNoticeRequest(thread_id=self._note.thread_id)
            try:
                await self.call("Session/ArmDeathNotice", request)
            except BrokerUnavailable:
                raise
            except FuriosaError:
                pass  # the broker then learns of our death a little later, from the pidfd

    async def call(
        self,
        method: str,
        request: Payload,
        seconds: float | None = ANSWER_SECONDS,
        *,
        descriptors: Sequence[int] = (),
        attached: int = 0,
        undo: Undo | None = None,
        on_queued: Callable[[QueuedNotice], None] | None = None,
    ) -> tuple[bytes, tuple[int, ...]]:
        """The response and its descriptors, which must be `attached` many.

        `on_queued` hears of the call's place in the queue; an error of it is raised here and withdraws
        the call. `descriptors` are closed in any case. A call that is cancelled or late is withdrawn;
        when the broker has done it nevertheless, what `undo` says is called before this one returns.
        Raises: what the broker says; BrokerUnavailable, also when there is no answer in `seconds`.
        """
        call = Call(method)
        body = handoff_pb2.Call(method=method, request=request.SerializeToString())
        self._post(call, handoff_pb2.Frame(call=body), descriptors)
        try:
            frame, received = await self._answer(call, seconds, attached, on_queued)
            return frame.reply.response, received
        except BaseException:
            await self._withdraw(call, undo)
            raise

    def watch(self, method: str, request: Payload) -> Call:
        """Begin a stream: `take` its answers as they come, then `abandon` it. Raises: BrokerUnavailable."""
        call = Call(method, STREAM)
        body = handoff_pb2.Call(method=method, request=request.SerializeToString())
        self._post(call, handoff_pb2.Frame(call=body), ())
        return call

    async def take(self, call: Call) -> bytes | None:
        """The newest answer of a stream once there is one, None at its end.

        Raises: what the broker says, BrokerUnavailable.
        """
        self._check_process()
        await self._wait(call.waiter, lambda: call.has_news, (), math.inf)
        snapshot, call.snapshot = call.snapshot, None
        if snapshot is not None:
            return snapshot
        answer, call.answer = call.answer, None
        assert answer is not None
        frame, message = answer
        message.close()
        if frame.WhichOneof("body") == "failure":
            raise error_from_wire(frame.failure)
        return None

    def abandon(self, call: Call, *, blocking: bool) -> None:
        """Cancel a stream, now or, where that would block and must not, when somebody waits next."""
        if os.getpid() != self._pid:
            return  # it is the parent's
        self._abandoned.append(call)
        if self._lock.acquire(blocking=blocking):
            self._lock.release()
            self._cancel_abandoned()

    async def wait(self, fds: Sequence[int], lease_id: str | None) -> None:
        """Returns when one of `fds` is readable or there are notices, of that lease or of any.

        Raises: BrokerUnavailable.
        """
        self._check_process()
        await self._wait(Waiter(), lambda: self._inbox.has_notices(lease_id), fds, math.inf)

    def fileno(self) -> int:
        """Readable when there is something to `take_notices` of, or for another call."""
        return self._stream.fileno()

    def is_quiet(self, lease_id: str) -> bool:
        """Whether it goes on, nothing has arrived, and no notices of that lease are kept."""
        with self._lock:
            return (
                self._ended is None
                and not self._inbox.has_notices(lease_id)
                and os.getpid() == self._pid
                and not self._arrived(0)
            )

    def take_notices(self, lease_id: str) -> list[LeaseNotice]:
        """Those that have arrived since the last time, oldest first.

        Raises: BrokerUnavailable when there are none and the session has ended.
        """
        self._check_process()
        waiter = Waiter()
        try:
            self._enter(waiter)
            if self._turns.leads(waiter):
                self._read()
        finally:
            self._leave(waiter)
        with self._lock:
            notices = self._inbox.take_notices(lease_id)
            if self._ended is not None and not notices:
                raise self._gone()
            return notices

    def forget_notices(self, lease_id: str) -> None:
        with self._lock:
            self._inbox.take_notices(lease_id)

    def broken(self, cause: str) -> BrokerUnavailable:
        """Ends the session because the broker talks nonsense; the error to raise."""
        self._end(cause)
        return self._gone()

    def close(self) -> None:
        """Ends the session and with it every call underway; no effect the second time."""
        if os.getpid() != self._pid:
            self._stream.close()  # our copies only: the parent goes on talking
            self._turns.close()
            return
        if self._note is not None:
            self._note.close()
        self._end("this connection was closed")

    async def _answer(
        self,
        call: Call,
        seconds: float | None,
        attached: int,
        on_queued: Callable[[QueuedNotice], None] | None = None,
    ) -> tuple[handoff_pb2.Frame, tuple[int, ...]]:
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while await self._wait(call.waiter, lambda: call.has_news, (), deadline):
            if call.answered:
                break
            queued, call.queued = call.queued, None
            if queued is not None and on_queued is not None:
                on_queued(queued)
        else:
            raise BrokerUnavailable(self._address, f"no answer within {seconds:g} s to {call.name}")
        assert call.answer is not None
        frame, message = call.answer
        call.answer = None
        if frame.WhichOneof("body") == "failure":
            message.close()
            raise error_from_wire(frame.failure)
        if len(message.descriptors) != attached:
            message.close()
            raise self.broken(
                f"its answer to {call.name} has {len(message.descriptors)} descriptors, not {attached}"
            )
        return frame, message.descriptors

    async def _withdraw(self, call: Call, undo: Undo | None) -> None:
        with self._lock:
            underway = self._inbox.is_underway(call)
        try:
            if underway:
                self._send(handoff_pb2.Frame(id=call.id, cancel=handoff_pb2.Cancel()))
            if undo is not None and (underway or call.answered):
                with contextlib.suppress(FuriosaError, DecodeError):
                    await io.uninterrupted(2 * SETTLE_SECONDS, self._settle, call, undo)
        finally:
            self._drop(call)

    async def _settle(self, call: Call, undo: Undo) -> None:
        if not call.answered:
            # the broker takes frames in their order: when it has answered this one it has read the
            # cancellation, and an answer that was faster has arrived here
            await self.call("Leases/List", leases_pb2.ListLeasesRequest(), SETTLE_SECONDS)
        if call.answer is not None and call.answer[0].WhichOneof("body") == "reply":
            method, request = undo(call.answer[0].reply.response)
            await self.call(method, request, SETTLE_SECONDS)

    async def _wait(
        self,
        waiter: Waiter,
        done: Callable[[], bool],
        fds: Sequence[int],
        deadline: float,
    ) -> bool:
        """Until `done` or one of `fds` is readable; False when the monotonic clock says `deadline`."""
        try:
            try:
                self._enter(waiter)
                while True:
                    self._cancel_abandoned()
                    with self._lock:
                        if done():
                            return True
                        if self._ended is not None:
                            raise self._gone()
                        leads = self._turns.leads(waiter)
                        sock = self._stream.fileno()
                        unsent = self._stream.has_unsent
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    own = sock if leads or waiter.bell is None else waiter.bell
                    ready = await io.ready(
                        (own, *fds),
                        (sock,) if unsent else (),
                        None if left == math.inf else left,
                    )
                    if unsent and sock in ready:
                        self._flush()
                    if not leads:
                        waiter.hush()
                    elif sock in ready:
                        self._read()
                    if not ready.isdisjoint(fds):
                        return True
            finally:
                self._leave(waiter)
        except BaseException:
            self._leave(waiter)  # once more: a Ctrl-C may have cut the first time short
            raise

    def _enter(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.enter(waiter)

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.leave(waiter)
            self._close_if_unused()

    def _post(self, call: Call, frame: handoff_pb2.Frame, descriptors: Sequence[int]) -> None:
        """Register the call and send its frame; `descriptors` are closed in any case."""
        try:
            self._check_process()
            with self._lock:
                if self._ended is not None:
                    raise self._gone()
                self._inbox.expect(call, frame)
        except BaseException:
            close_all(descriptors)
            raise
        self._send(frame, descriptors)

    def _send(self, frame: handoff_pb2.Frame, descriptors: Sequence[int] = ()) -> None:
        try:
            with self._lock:
                self._stream.post(frame.SerializeToString(), descriptors)
        except BaseException:
            self._end("interrupted while sending")
            raise

    def _flush(self) -> None:
        try:
            with self._lock:
                self._stream.flush()
        except BaseException:
            self._end("interrupted while sending")
            raise

    def _read(self) -> None:
        """Take in what has arrived; only whoever leads may."""
        try:
            with self._lock:
                if self._ended is None and self._inbox.take_in(self._stream.receive()):
                    self._turns.ring_all()
        except BlockingIOError:
            pass
        except (Ended, BrokenChannel) as exc:
            self._end(str(exc))
        except BaseException:
            self._end("interrupted while reading")
            raise

    def _cancel_abandoned(self) -> None:
        while self._abandoned:
            with self._lock:
                call = self._abandoned.popleft() if self._abandoned else None
                underway = call is not None and self._inbox.forget(call)
            if call is not None and underway:
                self._send(handoff_pb2.Frame(id=call.id, cancel=handoff_pb2.Cancel()))

    def _drop(self, call: Call) -> None:
        with self._lock:
            self._inbox.forget(call)

    def _end(self, cause: str) -> None:
        with self._lock:
            if self._ended is None:
                # first: whatever a Ctrl-C cuts short now, whoever leads sees the end and tells the next
                self._stream.hang_up()
                self._ended = cause
                self._inbox.forget_calls()
                self._turns.ring_all()
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        """The number of the socket may go to another file only when nobody waits on it any more."""
        if self._ended is not None and self._turns.idle:
            self._stream.close()
            self._turns.close()

    def _gone(self) -> BrokerUnavailable:
        return BrokerUnavailable(self._address, self._ended or "")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise BrokerUnavailable(
                self._address,
                f"this connection belongs to process {self._pid}; a forked child opens its own",
            )
