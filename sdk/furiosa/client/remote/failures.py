"""gRPC's errors in words: what the broker said, or why it could not be asked."""

from typing import Any, Final

from furiosa.client.remote.credentials import CA, CERTIFICATE, TOKEN_FILE, Credentials
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.failures import failed_from_trailers
from furiosa.common.status import Failed, Status, to_failed

_HUNG_UP: Final = ("Socket closed", "Connection reset by peer", "Broken pipe")


def failed_of(error: Any, address: str, credentials: Credentials) -> Failed:
    """Of a failed call. Without a reason of the broker's it is that there is no broker to ask."""
    code, text = int(error.code().value[0]), error.details() or ""
    trailers = {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416  # no dict()
    failed = failed_from_trailers(code, text, trailers)
    if (failed.reason and code != Status.UNAUTHENTICATED) or failed.reason == "NO_SESSION":
        return failed
    return unavailable(address, _cause(code, text, credentials))


def unavailable(address: str, cause: str) -> Failed:
    return to_failed(BrokerUnavailable(address, cause))


def _cause(code: int, text: str, credentials: Credentials) -> str:
    if code == Status.UNAUTHENTICATED:
        hint = "" if credentials.token else f" ({TOKEN_FILE} is not set)"
        return f"it does not let us in: {text}{hint}"
    if code != Status.UNAVAILABLE:
        return text or f"gRPC status {code}"
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate signature failure" in text:
        trusted = f"the authorities in {CA}" if credentials.ca else f"a known authority ({CA})"
        return (
            f"its certificate is not good: {trusted} did not sign it, or it is out of date: {text}"
        )
    if "Peer name" in text:
        return f"its certificate is for another host: {text}"
    if "WRONG_VERSION_NUMBER" in text:
        return f"it does not speak TLS at this port: {text}"
    if credentials.tls and any(said in text for said in _HUNG_UP):
        # TLS 1.3: a server judges our certificate when for us the handshake is over
        if credentials.certificate:
            return (
                f"it hung up: it may not accept the certificate in {CERTIFICATE} (signed by another "
                f"authority, out of date) or have too many connections: {text}"
            )
        return (
            f"it hung up: it may want a client certificate ({CERTIFICATE} is not set) "
            f"or have too many connections: {text}"
        )
    return text
