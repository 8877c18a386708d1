"""What a method is, whichever transport a call comes by."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.message import Message

from furiosa.broker.sessions import Session
from furiosa.common.errors import NoSession

if TYPE_CHECKING:
    import asyncio


@dataclass(slots=True)
class Call:
    """One call. `received` and `attached` descriptors belong to the transport, which closes them.

    A handler that keeps a received one duplicates it; what it appends to `attached` goes with the answer.
    `id` is the call's number on its connection; 0 where calls have none. `waited` is how many seconds
    ago it came, when that was to another broker process before this one.
    """

    method: str
    session: Session | None
    received: list[int] = field(default_factory=list)
    attached: list[int] = field(default_factory=list)
    id: int = 0
    waited: float = 0.0
    # takes back what an answer gave that could not be delivered; set with a future of such an answer
    undo: Callable[[], None] | None = None

    def need_session(self) -> Session:
        """Raises: NoSession."""
        if self.session is None:
            raise NoSession(self.method)
        return self.session


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response. `takes` descriptors at most come with the request."""

    request: type[Message]
    handler: Callable[[Any, Call], Awaitable[Message]]
    takes: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, one response, at once: the handler does not await. It may answer with a future, which
    the transport cancels when the caller wants no answer any more.
    """

    request: type[Message]
    handler: "Callable[[Any, Call], Message | asyncio.Future[Message]]"
    takes: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ServerStream:
    """One request, responses until the caller hangs up."""

    request: type[Message]
    handler: Callable[[Any, Call], AsyncIterator[Message]]
    takes: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ClientStream:
    """Many requests, one response. gRPC only: the handoff socket passes a descriptor instead."""

    request: type[Message]
    handler: Callable[[AsyncIterator[Any], Call], Awaitable[Message]]


Method = Unary | Prompt | ServerStream | ClientStream
