"""What one gRPC listener lets anybody have, and its options."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Of one listener; the units are in the names. The defaults leave a 1 GB machine standing."""

    connections: int = 4096  # at once; past it who comes is hung up on
    streams: int = 256  # calls at once on one connection; past it they wait in the client
    calls: int = 16_384  # at once, also those whose request is still on its way
    request_bytes: int = 2 * 1024**2  # a chunk of a program is 1 MiB
    metadata_bytes: int = 16 * 1024  # of a call; certificates and tokens are far smaller
    handshake_seconds: float = 10.0  # from the connect to the end of TLS and HTTP/2 settings
    request_seconds: float = 10.0  # for each message of a request, from the call's beginning
    keepalive_seconds: float = 20.0  # between two questions whether the client is there
    keepalive_answer_seconds: float = 10.0  # then its connection is closed, its session with it
    ping_interval_seconds: float = 5.0  # who asks oftener, without calls, is hung up on
    idle_seconds: float = 600.0  # a connection without calls is closed; the client connects again

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        return (
            ("grpc.so_reuseport", 0),  # a second server on our address must fail, not share it
            ("grpc.max_allowed_incoming_connections", self.connections),
            ("grpc.max_concurrent_streams", self.streams),
            ("grpc.max_receive_message_length", self.request_bytes),
            ("grpc.max_metadata_size", self.metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.metadata_bytes),
            # the default drops calls at random past 1,000; `calls` refuses them by name
            ("grpc.server.max_pending_requests", self.calls),
            ("grpc.server.max_pending_requests_hard_limit", self.calls),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_seconds)),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_answer_seconds)),
            # without this one it takes a minute, whatever the other says
            ("grpc.http2.ping_timeout_ms", _ms(self.keepalive_answer_seconds)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.ping_interval_seconds)),
            ("grpc.max_connection_idle_ms", _ms(self.idle_seconds)),
        )


LIMITS: Final = GrpcLimits()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
