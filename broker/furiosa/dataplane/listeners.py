"""Where clients of the data plane connect: a Unix socket, and TCP for those on other machines.

They are two servers, for a stranger on the network is given less than a user of this machine.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from furiosa.common.keys import TlsKeys
from furiosa.common.proof import Proving
from furiosa.dataplane.ports import Ports
from furiosa.dataplane.service import InferenceService

MAX_CALLS: Final = 1024  # at once; what one of them holds in memory is bounded by the message size
MAX_CALLS_BY_TCP: Final = 256

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on our address must fail, not share it
    ("grpc.server.max_pending_requests", 20_000),  # the default drops calls at random past 1,000
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
_TCP_OPTIONS: Final = (
    ("grpc.max_allowed_incoming_connections", 1024),
    ("grpc.max_concurrent_streams", 64),  # of one connection; more wait in the client
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it, it takes a minute
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_connection_idle_ms", 600_000),
)


@dataclass(frozen=True, slots=True)
class TcpListener:
    """`address` is `host:port`. `keys` is the descriptor that `TlsKeys.read` takes; None: no TLS."""

    address: str
    way: Proving
    keys: int | None


def unix_server(ports: Ports, path: Path, mode: int, max_bytes: int) -> grpc.aio.Server:
    """Not started yet. Raises: OSError when the socket cannot be made."""
    server = grpc.aio.server(
        options=(*_OPTIONS, ("grpc.max_receive_message_length", max_bytes)),
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    InferenceService(ports).add_to(server)
    path.unlink(missing_ok=True)  # left by one before us; the broker's lock says it is not in use
    before = os.umask(0o777 & ~mode)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {path}: {exc}") from None
    finally:
        os.umask(before)
    return server


def tcp_server(ports: Ports, listener: TcpListener, max_bytes: int) -> tuple[grpc.aio.Server, int]:
    """Not started yet, and its port. Raises: OSError when it cannot listen there."""
    server = grpc.aio.server(
        options=(*_OPTIONS, *_TCP_OPTIONS, ("grpc.max_receive_message_length", max_bytes)),
        maximum_concurrent_rpcs=MAX_CALLS_BY_TCP,
    )
    InferenceService(ports, listener.way).add_to(server)
    try:
        if listener.keys is None:
            return server, server.add_insecure_port(listener.address)
        credentials = _credentials(listener.keys, listener.way)
        return server, server.add_secure_port(listener.address, credentials)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {listener.address}: {exc}") from None


def _credentials(memory: int, way: Proving) -> grpc.ServerCredentials:
    """The broker writes new keys into the memory; they serve from the next connection on."""
    served = TlsKeys.read(memory)
    if served is None:
        raise OSError("the memory for TLS keys holds none")

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        now = TlsKeys.read(memory)
        if now is None or now == served:
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
