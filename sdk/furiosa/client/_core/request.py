"""A call as a value: what is asked, how long it may take, what the answer means, how it is undone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as Payload

from furiosa.common.errors import BadArgument

ANSWER_SECONDS: Final = 30.0  # the broker answers in microseconds; a worker may have to start first
MARGIN_SECONDS: Final = 10.0  # of an answer beyond the time that the broker was asked to wait
FOREVER_SECONDS: Final = 10 * 365 * 86_400  # how math.inf travels: a Duration has no infinity

Undo = Callable[[bytes], tuple[str, Payload]]  # response of a call: the call that takes it back

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request(Generic[_T]):
    method: str
    message: Payload
    convert: Callable[[bytes], _T]  # of the response; raises DecodeError or ValueError for nonsense
    seconds: float | None = ANSWER_SECONDS  # None: as long as it takes
    undo: Undo | None = None


def duration(name: str, seconds: float | None) -> Duration | None:
    """As it travels; None, for a field that stays absent, stays None. Raises: BadArgument."""
    if seconds is None:
        return None
    if not seconds >= 0:
        raise BadArgument(name, str(seconds), "seconds, 0 or more")
    message = Duration()
    message.FromNanoseconds(round(min(seconds, FOREVER_SECONDS) * 1e9))
    return message
