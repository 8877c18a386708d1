"""The sessions of a broker as its successor reads them: versioned JSON. Pure.

Written by the version before or after this one, so what does not fit is refused as a whole.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

VERSION: Final = 1


class BadState(Exception):
    """A state that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """Bytes of a stream, and the names of the descriptors that came, or leave, with them."""

    data: bytes = dataclasses.field(repr=False)
    descriptors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedCall:
    """A call that has no answer yet, as it came, and when: seconds of the monotonic clock."""

    since: float
    frame: SavedFrame


@dataclass(frozen=True, slots=True)
class SavedSession:
    """`socket`, `pidfd` and `memory` are names of descriptors; `token` is the session's secret.

    `memory` is that of the death notice and `thread_id` for whom it is armed; "" and 0: it is not.
    `pending` are to be made again. `received` has come but is not a whole frame yet; `unsent` is what the
    socket has not taken yet.
    """

    id: int
    token: str = dataclasses.field(repr=False)
    client: str
    pid: int
    uid: int
    gid: int
    start_time_ticks: int
    key: int
    socket: str
    pidfd: str
    memory: str = ""
    thread_id: int = 0
    pending: tuple[SavedCall, ...] = ()
    received: SavedFrame = SavedFrame(b"")
    unsent: tuple[SavedFrame, ...] = ()

    @property
    def descriptors(self) -> tuple[str, ...]:
        """The names of all that belong to it."""
        own = [name for name in (self.socket, self.pidfd, self.memory) if name]
        frames = (*(call.frame for call in self.pending), self.received, *self.unsent)
        return (*own, *(name for frame in frames for name in frame.descriptors))


@dataclass(frozen=True, slots=True)
class BrokerState:
    """`next_session` is an id that no session has had, nor any later one."""

    sessions: tuple[SavedSession, ...] = ()
    next_session: int = 1
    version: int = VERSION

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), default=_base64, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises: BadState."""
        try:
            values = json.loads(data)
        except ValueError as exc:
            raise BadState(f"not JSON: {exc}") from None
        version = values.get("version") if isinstance(values, dict) else None
        if version != VERSION:
            raise BadState(f"version {version!r}, expected {VERSION}")
        state = cls(
            **_checked(values, {"version": _number, "next_session": _number, "sessions": _sessions})
        )
        names = [name for session in state.sessions for name in session.descriptors]
        if len(set(names)) != len(names):
            raise BadState("two places for one descriptor")
        return state


def _base64(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


def _checked(values: object, parsers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Exactly the fields that `parsers` names, each parsed by its own."""
    if not isinstance(values, dict) or values.keys() != parsers.keys():
        shown = ", ".join(values) if isinstance(values, dict) else type(values).__name__
        raise BadState(f"{shown}: expected {', '.join(parsers)}")
    parsed = {}
    for name, parse in parsers.items():
        try:
            parsed[name] = parse(values[name])
        except BadState as exc:
            raise BadState(f"{name}: {exc}") from None
    return parsed


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadState(f"{value!r}, expected a number")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise BadState(f"{value!r}, expected seconds")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadState(f"{value!r}, expected text")
    return value


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except ValueError:
        raise BadState("expected base64") from None


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadState(f"{type(value).__name__}, expected a list")
    return value


def _names(value: object) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _frame(value: object) -> SavedFrame:
    return SavedFrame(**_checked(value, {"data": _bytes, "descriptors": _names}))


def _calls(value: object) -> tuple[SavedCall, ...]:
    parsers = {"since": _seconds, "frame": _frame}
    return tuple(SavedCall(**_checked(each, parsers)) for each in _list(value))


def _frames(value: object) -> tuple[SavedFrame, ...]:
    return tuple(map(_frame, _list(value)))


_SESSION: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("id", "pid", "uid", "gid", "start_time_ticks", "key", "thread_id"), _number),
    **dict.fromkeys(("token", "client", "socket", "pidfd", "memory"), _text),
    "pending": _calls,
    "received": _frame,
    "unsent": _frames,
}


def _session(value: object) -> SavedSession:
    return SavedSession(**_checked(value, _SESSION))


def _sessions(value: object) -> tuple[SavedSession, ...]:
    return tuple(map(_session, _list(value)))
