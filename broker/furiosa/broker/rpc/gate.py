"""Who makes a gRPC call, and for which session. Local and remote callers come by different gates.

On the Unix socket gRPC cannot tell who calls, so only a session's token counts. On TCP whoever cannot
prove who he is gets nothing at all, and a session's token counts only together with that proof.
"""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from furiosa.broker.sessions import Session
from furiosa.common.proof import Metadata, Proof, Proving, bearer_of, proof_of, session_token_of

TokenName = Callable[[str], str | None]  # a bearer token as presented: its name, None for no such


class Known(Protocol):
    """The live sessions."""

    def by_token(self, token: str) -> Session | None: ...


class Unproven(Exception):
    """The caller has not proved who he is; the text says what would."""


class Identity(Struct, frozen=True):
    """Who a remote client proved to be: `subject` of its certificate or name of its `token`."""

    subject: str = ""
    token: str = ""

    def __str__(self) -> str:
        return self.subject or self.token


class Caller(Struct, frozen=True):
    """`identity` and `proof` of a remote one; `session` is the one he acts for, if any."""

    session: Session | None
    identity: Identity | None = None
    proof: Proof | None = None

    @property
    def key(self) -> int | Identity | None:
        """Whose calls are counted together."""
        return self.identity if self.session is None else self.session.id


class Gate(Protocol):
    @property
    def admits_all(self) -> bool:
        """Whether `admit` never raises."""

    def admit(self, metadata: Metadata) -> None:
        """What can be said before the call's request is read. Raises: Unproven."""

    def caller(self, context: Any) -> Caller:
        """Raises: Unproven."""


class LocalGate:
    """Anybody may look who can open the socket; the token of a local session is the session."""

    admits_all = True

    def __init__(self, sessions: Known) -> None:
        self._sessions = sessions

    def admit(self, metadata: Metadata) -> None:
        pass

    def caller(self, context: Any) -> Caller:
        token = session_token_of(context.invocation_metadata() or ())
        return Caller(None if token is None else self._sessions.by_token(token))


class RemoteGate:
    def __init__(self, way: Proving, sessions: Known, token_name: TokenName) -> None:
        self._way = way
        self._sessions = sessions
        self._token_name = token_name

    @property
    def admits_all(self) -> bool:
        return self._way is Proving.CERTIFICATE  # TLS has done it

    def admit(self, metadata: Metadata) -> None:
        if not self.admits_all:
            self._name(bearer_of(metadata))

    def caller(self, context: Any) -> Caller:
        metadata = context.invocation_metadata() or ()
        proof = proof_of(self._way, context.auth_context(), metadata)
        if proof is None:
            raise Unproven(_NEEDED[self._way])
        if self._way is Proving.CERTIFICATE:
            identity = Identity(subject=proof.subject)
        else:
            identity = Identity(token=self._name(proof.token))
        token = session_token_of(metadata)
        session = None if token is None else self._sessions.by_token(proof.bind(token))
        return Caller(session, identity, proof)

    def _name(self, token: str) -> str:
        if not token:
            raise Unproven(_NEEDED[Proving.TOKEN])
        name = self._token_name(token)
        if name is None:
            raise Unproven("this bearer token is unknown or was revoked")
        return name


_NEEDED = {
    Proving.CERTIFICATE: "this listener needs a client certificate with a subject",
    Proving.TOKEN: 'this listener needs metadata "authorization: Bearer <token>"',
}
