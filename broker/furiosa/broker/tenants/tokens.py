"""Bearer tokens: 256 random bits, of which the broker keeps only the SHA-256.

Nobody guesses 256 bits, so no slow hash is needed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping


def new_token() -> tuple[str, str]:
    """A token for the client, and its digest, 64 hex digits, for the tenants file."""
    token = secrets.token_hex(32)
    return token, digest_of(token)


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()


def find(tokens: Mapping[str, str], presented: str) -> str | None:
    """The tenant of a digest in `tokens`. How long it takes depends on how many there are, on no secret."""
    digest = digest_of(presented)
    found = None
    for known, tenant in tokens.items():
        if hmac.compare_digest(known, digest):
            found = tenant
    return found
