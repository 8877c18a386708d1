"""Who is connected: a session is one live connection and who is behind it."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from furiosa.broker.owners import ProcessMark
from furiosa.broker.tenants.principal import Principal
from furiosa.common.views import Notice, OwnerView

MAX_CLIENT_NAME: Final = 128  # characters


class Peer(Protocol):
    """Who is behind a session: a local process, or a remote client, whose pid is 0.

    `key` is the same for every connection of one process, and nobody else ever has it.
    """

    @property
    def key(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def command_line(self) -> str: ...
    @property
    def is_alive(self) -> bool: ...
    @property
    def view(self) -> OwnerView: ...
    @property
    def mark(self) -> ProcessMark: ...
    @property
    def principal(self) -> Principal: ...


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Session:
    """`token` proves the session on gRPC calls; `send_notice` sends one to the client.

    `followers` are told the same, for they act on the session's behalf.
    """

    id: int
    owner: Peer
    client: str
    send_notice: Callable[[Notice], None]
    token: str = field(repr=False)
    followers: set[Callable[[Notice], None]] = field(repr=False, default_factory=set)

    def notify(self, notice: Notice) -> None:
        self.send_notice(notice)
        self.notify_followers(notice)

    def notify_followers(self, notice: Notice) -> None:
        for send in tuple(self.followers):
            send(notice)


class Sessions:
    """The live sessions.

    `on_open(session)` and `on_gone(session, cause)` are called once for each; `on_count(n)` after each
    change of how many there are. `next_id` is that of the next one. Ids are never used twice, also not by
    a broker that took sessions over; one that starts anew begins with 1.
    """

    def __init__(
        self,
        on_open: Callable[[Session], None],
        on_gone: Callable[[Session, str], None],
        on_count: Callable[[int], None],
    ) -> None:
        self._on_open = on_open
        self._on_gone = on_gone
        self._on_count = on_count
        self.next_id = 1
        self._live: dict[int, Session] = {}
        self._by_token: dict[bytes, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        """In the order they were opened; a copy."""
        return iter(tuple(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def open(
        self,
        owner: Peer,
        client: str,
        send_notice: Callable[[Notice], None],
        *,
        token: str | None = None,
    ) -> Session:
        """`token`: by which it is found; a new random one unless it is given."""
        token = secrets.token_hex(32) if token is None else token
        session = Session(self.next_id, owner, shown(client), send_notice, token)
        self.add(session)
        return session

    def add(self, session: Session) -> None:
        """One that another broker process opened, or a new one."""
        self.next_id = max(self.next_id, session.id + 1)
        self._live[session.id] = session
        self._by_token[_digest(session.token)] = session
        self._on_open(session)
        self._on_count(len(self._live))

    def by_token(self, token: str) -> Session | None:
        """Looked up by digest, so that how long it takes tells nothing about the token."""
        return self._by_token.get(_digest(token))

    def of_process(self, pid: int) -> Session | None:
        """The first session of a local process."""
        return next((s for s in self._live.values() if s.owner.pid == pid != 0), None)

    def close(self, session: Session, cause: str) -> None:
        """No effect on a session that is closed already."""
        if self._live.pop(session.id, None) is not None:
            del self._by_token[_digest(session.token)]
            self._on_gone(session, cause)
            self._on_count(len(self._live))


def shown(name: str) -> str:
    """What a client calls itself, fit for terminals and logs."""
    return "".join(c if c.isprintable() else "?" for c in name[:MAX_CLIENT_NAME])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
