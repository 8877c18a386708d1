"""The gRPC half of a bridge: calls as bytes, with callbacks from threads of gRPC."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import grpc

from furiosa.client.address import TcpAddress
from furiosa.client.remote.credentials import Credentials

PACKAGE: Final = "furiosa.proto.broker.v1"
WITHDRAW_SECONDS: Final = 2.0  # to learn how a withdrawn call ended
CHUNK_BYTES: Final = 512 * 1024

Chunk = Callable[[bytes], bytes]  # a piece of a file as a message
Metadata = tuple[tuple[str, str], ...]

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # the connection is the session's: it is not shared
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.keepalive_time_ms", 20_000),  # a broker whose machine is gone is noticed, too
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it, it takes a minute
    ("grpc.enable_retries", 0),  # what takes something is never sent twice
    ("grpc.enable_http_proxy", 0),  # a broker is on our own network
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 16 * 1024**2),
)


class Done(Protocol):
    """How a call ended. One of the two is given; neither for one that we cancelled."""

    def __call__(self, response: bytes | None, error: Any | None) -> None: ...


class Underway:
    """A call. `withdraw` asks to end it; how it ended is told nevertheless."""

    def __init__(self, call: Any, half_close: threading.Event | None = None) -> None:
        self._call = call
        self._half_close = half_close

    def tell(self, done: Done) -> None:
        """Once; perhaps at once, in this thread."""

        def ended(_: Any) -> None:
            if self._half_close is not None:
                self._half_close.set()  # gRPC's thread still waits in `requests`
            error = None if self._call.cancelled() else self._call.exception()
            if self._call.cancelled() or error is not None:
                done(None, error)
            else:
                done(self._call.result(), None)

        self._call.add_done_callback(ended)

    def withdraw(self) -> None:
        if self._half_close is None:
            self._call.cancel()
            return
        self._half_close.set()
        timer = threading.Timer(WITHDRAW_SECONDS, self._call.cancel)
        timer.daemon = True
        timer.start()


class Uplink:
    def __init__(self, address: TcpAddress, credentials: Credentials) -> None:
        self._metadata: Metadata = ()
        if credentials.token:
            self._metadata += (("authorization", f"Bearer {credentials.token}"),)
        # typed for messages, not bytes
        self._channel: Any = self._connected(str(address), credentials)

    @staticmethod
    def _connected(target: str, credentials: Credentials) -> grpc.Channel:
        if credentials.tls:
            secure = grpc.ssl_channel_credentials(
                credentials.ca or None, credentials.key or None, credentials.certificate or None
            )
            return grpc.secure_channel(target, secure, _OPTIONS)
        return grpc.insecure_channel(target, _OPTIONS)

    def act_for(self, session_token: str) -> None:
        """All later calls are of this session."""
        self._metadata += (("furiosa-session", session_token),)

    def unary(self, method: str, request: bytes) -> Underway:
        call = self._channel.unary_unary(_path(method)).future(request, metadata=self._metadata)
        return Underway(call)

    def undoable(self, number: int, method: str, request: bytes) -> Underway:
        """One whose outcome is learnt also if it is withdrawn, and that notices know by `number`.

        Withdrawn by cancelling, an answer that is on its way would be lost, and what was granted with
        it. So our side of the stream stays open, and closing it withdraws. See docs/remote.md.
        """
        half_close = threading.Event()

        def requests() -> Iterator[bytes]:
            yield request
            half_close.wait()

        metadata = (
            *self._metadata,
            ("furiosa-withdraw", "half-close"),
            ("furiosa-call", str(number)),
        )
        call = self._channel.stream_unary(_path(method)).future(requests(), metadata=metadata)
        return Underway(call, half_close)

    def upload(self, method: str, header: bytes, memory: int, chunk: Chunk) -> Underway:
        """`header`, then the content of the descriptor in pieces, each encoded by `chunk`.

        `memory` is closed when it has been read.
        """

        def requests() -> Iterator[bytes]:
            with open(memory, "rb", buffering=0) as file:
                yield header
                offset = 0
                while part := os.pread(file.fileno(), CHUNK_BYTES, offset):
                    offset += len(part)
                    yield chunk(part)

        call = self._channel.stream_unary(_path(method)).future(requests(), metadata=self._metadata)
        return Underway(call)

    def stream(self, method: str, request: bytes) -> Any:
        """Iterate over the responses in a thread of your own; `cancel` it. Raises: grpc.RpcError."""
        return self._channel.unary_stream(_path(method))(request, metadata=self._metadata)

    def close(self) -> None:
        """Calls underway are cancelled."""
        self._channel.close()


def _path(method: str) -> str:
    return f"/{PACKAGE}.{method}"
