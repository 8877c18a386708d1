"""Who we are towards a broker on another machine, and how we know that it is the right one.

FURIOSA_BROKER_CA, FURIOSA_BROKER_CERT, FURIOSA_BROKER_KEY and FURIOSA_BROKER_TOKEN_FILE name files:
what is in an environment variable can be read in /proc, and is inherited by every child.
"""

import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from furiosa.client.address import TcpAddress
from furiosa.common.errors import BadArgument
from furiosa.common.keys import MOST_BYTES

CA: Final = "FURIOSA_BROKER_CA"
CERTIFICATE: Final = "FURIOSA_BROKER_CERT"
KEY: Final = "FURIOSA_BROKER_KEY"
TOKEN_FILE: Final = "FURIOSA_BROKER_TOKEN_FILE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`tls` is False for a loopback address without a CA only. Empty: not given; PEM but for the token.

    Without `ca` the authorities that gRPC knows are trusted.
    """

    tls: bool
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def load(cls, address: TcpAddress, environ: Mapping[str, str]) -> Self:
        """Raises: BadArgument, naming the variable."""
        ca, certificate, key, token = (
            _file(environ, name) for name in (CA, CERTIFICATE, KEY, TOKEN_FILE)
        )
        if bool(certificate) != bool(key):
            given, missing = (CERTIFICATE, KEY) if certificate else (KEY, CERTIFICATE)
            raise BadArgument(missing, "not set", f"a file, since {given} is set")
        tls = bool(ca) or not is_loopback(address.host)
        return cls(tls, ca, certificate, key, _token(token, environ))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(data: bytes, environ: Mapping[str, str]) -> str:
    text = data.strip().decode("ascii", errors="replace")
    if data and not (text and text.isprintable() and text.isascii() and " " not in text):
        found = f"{environ[TOKEN_FILE]!r}, which has no token"
        raise BadArgument(TOKEN_FILE, found, "a file with one word of printable ASCII")
    return text


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # not to wait for the other end of a pipe


def _file(environ: Mapping[str, str], name: str) -> bytes:
    path = environ.get(name, "")
    if not path:
        return b""
    expected = f"a readable file of 1..{MOST_BYTES} bytes"
    try:
        with open(path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadArgument(name, f"{path!r}, no regular file", expected)
            data = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise BadArgument(name, f"{path!r}: {exc.strerror}", expected) from None
    if not 0 < len(data) <= MOST_BYTES:
        raise BadArgument(name, f"{path!r} of {len(data)} bytes", expected)
    return data
