"""What a TCP listener of the broker is made of: its address, what it asks of clients, and its TLS keys.

gRPC can require client certificates or not ask for any, so a listener takes either certificates or
bearer tokens, never both.
"""

import contextlib
import ipaddress
import logging
import os
import re
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from furiosa.broker.log import event
from furiosa.common.keys import MOST_BYTES, TlsKeys
from furiosa.common.proof import Proving

log = logging.getLogger(__name__)

_LISTENER: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})(?:/(?P<way>\w+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Listener:
    """`port` 0 takes any free one."""

    host: str
    port: int
    way: Proving
    tls: bool

    @classmethod
    def parse(cls, text: str, *, tls: bool, client_ca: bool) -> "Listener":
        """`host:port`, with `/certificate` or `/token` behind it to say what clients prove themselves by.

        Without that: certificates where there is a client CA, else tokens. `tls`, `client_ca`: whether
        the broker has them. Raises: ValueError, saying what is wrong and what would be right.
        """
        match = _LISTENER.fullmatch(text)
        if match is None or int(match["port"]) > 65_535:
            raise ValueError(f"{text!r} is not host:port, host:port/certificate or host:port/token")
        ways = {way.value: way for way in Proving}
        if (name := match["way"]) is not None and name not in ways:
            raise ValueError(f"{text!r} ends with {name!r}, expected certificate or token")
        way = ways[name] if name else (Proving.CERTIFICATE if client_ca else Proving.TOKEN)
        host = match["v6"] or match["host"]
        if way is Proving.CERTIFICATE and not (tls and client_ca):
            raise ValueError(
                f"{text!r} asks for client certificates: tls_cert, tls_key and tls_client_ca are needed"
            )
        if not tls and not _is_loopback(host):
            raise ValueError(
                f"{text!r} without TLS: anybody on the way could read the tokens. Set tls_cert and "
                "tls_key, or listen on a loopback address such as 127.0.0.1"
            )
        return cls(host, int(match["port"]), way, tls)

    def __str__(self) -> str:
        """What `parse` takes, with nothing left to defaults."""
        return f"{self.at(self.port)}/{self.way.value}"

    @property
    def target(self) -> str:
        """Where clients find it; `:port` on every address: the host they know this machine by."""
        return f":{self.port}" if self.host in ("0.0.0.0", "::") else self.at(self.port)

    def at(self, port: int) -> str:
        """`host:port`, as gRPC takes it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


class TlsFiles:
    """Certificate, key and client CA in files that may be replaced at any time.

    `current` is what was sound last. `memory` is a descriptor of shared memory with the same, for the
    data-plane process, which may not open the files.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Raises: OSError; ValueError for what is not PEM or does not belong together."""
        self._paths = (certificate, key, *(() if client_ca is None else (client_ca,)))
        self._stamp = self._stamps()
        self.current = self._load()
        self.memory = os.memfd_create("tls", os.MFD_CLOEXEC)
        self.current.write(self.memory)
        if os.stat(key).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            event(log, "tls.key_exposed", logging.WARNING, file=key, cause="every user may open it")

    def check(self) -> None:
        """Take over files that have changed; cheap when none has. Bad ones are logged, the old serve on."""
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.current = self._load()
        except (OSError, ValueError) as exc:
            event(log, "tls.not_reloaded", logging.ERROR, cause=exc)
            return
        self.current.write(self.memory)
        event(log, "tls.reloaded", certificate=self._paths[0])

    def close(self) -> None:
        os.close(self.memory)

    def _stamps(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in self._paths)

    def _load(self) -> TlsKeys:
        keys = TlsKeys(*(_read(path) for path in self._paths))
        _check(keys, self._paths)
        return keys


def server_credentials(keys: Callable[[], TlsKeys], way: Proving) -> grpc.ServerCredentials:
    """TLS with the keys as they are when a client connects."""
    served = keys()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        now = keys()
        if now is served:
            return None
        served = now
        return _configuration(now, way)

    certificates = way is Proving.CERTIFICATE
    return grpc.dynamic_ssl_server_credentials(
        _configuration(served, way),
        changed,  # type: ignore[arg-type]  # None: as before
        certificates,
    )


def _configuration(keys: TlsKeys, way: Proving) -> grpc.ServerCertificateConfiguration:
    authorities = keys.client_ca if way is Proving.CERTIFICATE else None
    return grpc.ssl_server_certificate_configuration([(keys.key, keys.certificate)], authorities)


def _is_loopback(host: str) -> bool:
    """Of a number only: what a name stands for is another's to say."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
    return data


def _check(keys: TlsKeys, paths: tuple[Path, ...]) -> None:
    """These very bytes, for the files may be replaced meanwhile. Raises: ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _memory(keys.certificate) as certificate, _memory(keys.key) as key:
            context.load_cert_chain(certificate, key, password="")  # never asks at the terminal
    except (ssl.SSLError, ValueError, OSError) as exc:
        both = f"{paths[0]} and {paths[1]}"
        raise ValueError(f"{both} are not a PEM certificate and its key: {exc}") from None
    if len(paths) > 2:
        try:
            context.load_verify_locations(cadata=keys.client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as exc:
            raise ValueError(f"{paths[2]} has no PEM certificates: {exc}") from None


@contextlib.contextmanager
def _memory(data: bytes) -> Iterator[str]:
    """A path to the data for a library that reads files only."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
