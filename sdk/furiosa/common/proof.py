"""How a client on another machine proves who it is: a certificate, or a bearer token.

Both ends of the broker that listen on TCP, the control plane and the data plane, read it the same way.
Nothing here knows gRPC; the arguments are what a call's context has.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

SESSION_KEY: Final = "furiosa-session"  # metadata of a call that acts for a session
AGENT_PREFIX: Final = "furiosa-session/"  # the same as a channel option, in the user agent
BOUND_PREFIX: Final = "tcp:"  # no token of a local session begins like that

_TOKEN: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

Metadata = Iterable[tuple[str, str | bytes]]


class Proving(Enum):
    """What a listener asks for. It never takes the other one."""

    CERTIFICATE = "certificate"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Proof:
    """`subject` of a certificate (RFC 4514), or a bearer `token` as presented; the other is empty."""

    subject: str = ""
    token: str = field(default="", repr=False)

    def bind(self, session_token: str) -> str:
        """What the broker knows the session by that this client was given `session_token` for.

        Another client's proof makes another name of it, and none at all of a local session's: a token
        that was stolen is worth nothing without the proof.
        """
        text = "\0".join((session_token, self.subject, self.token))
        return BOUND_PREFIX + hashlib.sha256(text.encode()).hexdigest()


def proof_of(
    way: Proving, auth_context: Mapping[str, Iterable[bytes]], metadata: Metadata
) -> Proof | None:
    """None: the client proved nothing of the kind. That a token is known is not checked here.

    Source of "x509_subject": gRPC, grpc_security_constants.h; text as of RFC 2253, which RFC 4514 kept.
    """
    if way is Proving.CERTIFICATE:
        subject = b"".join(auth_context.get("x509_subject", ())).decode(errors="replace")
        return Proof(subject=subject) if subject else None
    token = bearer_of(metadata)
    return Proof(token=token) if token else None


def bearer_of(metadata: Metadata) -> str:
    """The token of "authorization: Bearer <token>"; empty: none, or more than one."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return ""
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def session_token_of(metadata: Metadata) -> str | None:
    """The token a call carries, in the form tokens have; None: it acts for no session."""
    for key, value in metadata:
        if not isinstance(value, str):
            continue
        if key == "user-agent" and value.startswith(AGENT_PREFIX):
            value = value.removeprefix(AGENT_PREFIX).partition(" ")[0]
        elif key != SESSION_KEY:
            continue
        return value if _TOKEN.fullmatch(value) else None
    return None
