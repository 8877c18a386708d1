"""What arrives on the handoff socket, sorted: answers by call, snapshots by stream, notices by lease.

Methods are called under the connection's lock.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from furiosa.client._core.turns import Waiter
from furiosa.common.channel import BrokenChannel, Message
from furiosa.common.views import LeaseNotice, QueuedNotice
from furiosa.common.wire import notice_from_wire
from furiosa.proto.broker.v1 import handoff_pb2

MAX_NOTICES: Final = 64  # of one lease that nobody takes; the oldest are dropped

# Frames that end a call, by its kind.
GREETING: Final = frozenset({"welcome", "failure"})
UNARY: Final = frozenset({"reply", "failure"})
STREAM: Final = frozenset({"end", "failure"})


class Call:
    """A call underway. `answer` is the frame that ended it, until somebody takes it.

    Of a stream's replies, and of notices about the queue, only the newest one is kept: each says
    all that the ones before it said.
    """

    __slots__ = ("answer", "ends", "id", "name", "queued", "snapshot", "waiter")

    def __init__(self, name: str, ends: frozenset[str] = UNARY) -> None:
        self.id = 0
        self.name = name
        self.ends = ends
        self.waiter = Waiter()
        self.answer: tuple[handoff_pb2.Frame, Message] | None = None
        self.queued: QueuedNotice | None = None
        self.snapshot: bytes | None = None

    @property
    def answered(self) -> bool:
        return self.answer is not None

    @property
    def has_news(self) -> bool:
        return self.answer is not None or self.queued is not None or self.snapshot is not None


class Inbox:
    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._notices: dict[str, deque[LeaseNotice]] = {}

    def expect(self, call: Call, frame: handoff_pb2.Frame) -> None:
        """Its answer may come from now on; numbers the frame, unless that is the greeting."""
        if call.ends is not GREETING:
            self._last_id += 1
            call.id = frame.id = self._last_id
        self._calls[call.id] = call

    def is_underway(self, call: Call) -> bool:
        return call.id in self._calls

    def forget(self, call: Call) -> bool:
        """Whether it was underway. What was kept of its answer is closed."""
        underway = self._calls.pop(call.id, None) is not None
        answer, call.answer = call.answer, None
        if answer is not None:
            answer[1].close()
        return underway

    def forget_calls(self) -> None:
        self._calls.clear()

    def has_notices(self, lease_id: str | None) -> bool:
        """Of that lease, or of any."""
        return bool(self._notices) if lease_id is None else lease_id in self._notices

    def take_notices(self, lease_id: str) -> list[LeaseNotice]:
        return list(self._notices.pop(lease_id, ()))

    def take_in(self, messages: Sequence[Message]) -> bool:
        """Ring those whose answers have come; whether there were notices, which concern everybody.

        The messages become the inbox's. Raises: BrokenChannel.
        """
        left = deque(messages)
        noticed = False
        try:
            while left:
                noticed = self._sort(left.popleft()) or noticed
        finally:
            for message in left:
                message.close()
        return noticed

    def _sort(self, message: Message) -> bool:
        try:
            frame = handoff_pb2.Frame.FromString(message.payload)
            kind = frame.WhichOneof("body") or "empty"
            if kind == "notice":
                message.close()
                return self._notify(frame.notice)
        except (DecodeError, ValueError) as exc:
            message.close()
            raise BrokenChannel(f"it sent no sound frame: {exc}") from None
        call = self._calls.get(frame.id)
        if call is not None and kind in call.ends:
            del self._calls[frame.id]
            call.answer = frame, message
            call.waiter.ring()
            return False
        message.close()
        if call is not None and kind == "reply" and call.ends is STREAM and not message.descriptors:
            call.snapshot = frame.reply.response
            call.waiter.ring()
            return False
        is_late = 0 < frame.id <= self._last_id and kind in ("reply", "failure", "end")
        if call is not None or not is_late:  # late: the call was withdrawn
            raise BrokenChannel(f"it sent an unexpected {kind} frame, number {frame.id}")
        return False

    def _notify(self, frame: handoff_pb2.Notice) -> bool:
        notice = notice_from_wire(frame)
        if not isinstance(notice, QueuedNotice):
            kept = self._notices.setdefault(notice.lease_id, deque(maxlen=MAX_NOTICES))
            kept.append(notice)
            return True
        call = self._calls.get(notice.call_id)
        if call is not None:  # else it is late, as an answer may be
            call.queued = notice
            call.waiter.ring()
        return False
