"""Who is connected: a session is one live handoff connection and the process behind it."""

import hashlib
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from furiosa.broker.owners import Owner
from furiosa.common.views import Notice, OwnerView


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Session:
    """`token` proves the session on gRPC calls; `send_notice` sends one to the client.

    `followers` are told the same, for they act on the session's behalf.
    """

    id: int
    owner: Owner
    client: str
    send_notice: Callable[[Notice], None]
    token: str = field(repr=False, default_factory=lambda: secrets.token_hex(32))
    followers: set[Callable[[Notice], None]] = field(repr=False, default_factory=set)

    def notify(self, notice: Notice) -> None:
        for send in (self.send_notice, *self.followers):
            send(notice)

    def same_process(self, other: "Session") -> bool:
        return self.owner.key == other.owner.key

    @property
    def owner_view(self) -> OwnerView:
        owner = self.owner
        return OwnerView(
            owner.pid, owner.uid, owner.gid, owner.start_time_ticks, owner.command_line
        )


class Sessions:
    """The live sessions.

    `on_gone(session, cause)` is called once for each, when it ends; `on_count(n)` after each change of
    how many there are.
    """

    def __init__(
        self, on_gone: Callable[[Session, str], None], on_count: Callable[[int], None]
    ) -> None:
        self._on_gone = on_gone
        self._on_count = on_count
        self._ids = itertools.count(1)
        self._live: dict[int, Session] = {}
        self._by_token: dict[bytes, Session] = {}

    def open(self, owner: Owner, client: str, send_notice: Callable[[Notice], None]) -> Session:
        session = Session(next(self._ids), owner, client, send_notice)
        self._live[session.id] = session
        self._by_token[_digest(session.token)] = session
        self._on_count(len(self._live))
        return session

    def by_token(self, token: str) -> Session | None:
        """Looked up by digest, so that how long it takes tells nothing about the token."""
        return self._by_token.get(_digest(token))

    def close(self, session: Session, cause: str) -> None:
        """No effect on a session that is closed already."""
        if self._live.pop(session.id, None) is not None:
            del self._by_token[_digest(session.token)]
            self._on_gone(session, cause)
            self._on_count(len(self._live))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
