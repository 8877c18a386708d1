"""A broker in a thread that speaks the handoff protocol on a real socket, and does what a test tells it."""

import os
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from google.protobuf.message import Message as Payload

from furiosa.client.address import UnixAddress
from furiosa.common.channel import Decoder, encode, receive, send
from furiosa.common.errors import FuriosaError
from furiosa.common.failures import failed_to_wire
from furiosa.common.status import to_failed
from furiosa.common.views import Notice
from furiosa.common.wire import notice_to_wire
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import types_pb2

TOKEN = "ab" * 32


@dataclass
class Peer:
    """One client's connection, as a handler sees it. Who answers later keeps a copy."""

    sock: socket.socket
    id: int = 0  # of the call that is being handled

    def send(self, frame: pb.Frame, descriptors: Sequence[int] = ()) -> None:
        """Descriptors stay the caller's."""
        self.send_bytes(encode(frame.SerializeToString(), descriptors), descriptors)

    def send_bytes(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        sent = send(self.sock, data, descriptors)
        self.sock.sendall(data[sent:])

    def reply(self, response: Payload, descriptors: Sequence[int] = ()) -> None:
        reply = pb.Reply(response=response.SerializeToString())
        self.send(pb.Frame(id=self.id, reply=reply), descriptors)

    def fail(self, error: FuriosaError) -> None:
        self.send(pb.Frame(id=self.id, failure=failed_to_wire(to_failed(error))))

    def end(self) -> None:
        self.send(pb.Frame(id=self.id, end=pb.End()))

    def notify(self, notice: Notice) -> None:
        self.send(pb.Frame(notice=notice_to_wire(notice)))

    def hang_up(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


Handler = Callable[[Peer, bytes, tuple[int, ...]], None]


@dataclass
class FakeBroker:
    """`handlers` answer calls by method name; a method without one is never answered.

    A handler runs in the thread of its connection; the descriptors it gets are closed after it.
    """

    path: str
    handlers: dict[str, Handler] = field(default_factory=dict)
    welcome: pb.Welcome = field(
        default_factory=lambda: pb.Welcome(
            protocol_version=1,
            broker_version="0.0.0",
            session_token=TOKEN,
            grpc_target="unix:/nowhere",
            origin=types_pb2.DEVICE_ORIGIN_EMULATED,
        )
    )
    greet: Callable[[Peer], None] | None = None  # instead of the welcome

    def __post_init__(self) -> None:
        self.calls: Counter[str] = Counter()  # by method, as they arrive; "cancel" and "hello" too
        self.hellos: list[str] = []
        self.requests: dict[str, bytes] = {}  # the last of each method
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(self.path)

    def __enter__(self) -> Self:
        self._listener.bind(self.address.handoff)
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._socks):
            sock.close()
        Path(self.address.handoff).unlink(missing_ok=True)

    def die(self) -> None:
        """Hang up on everybody and accept nobody."""
        for sock in (self._listener, *self._socks):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def seen(self, name: str, count: int = 1) -> None:
        """Wait until `count` frames of that name have arrived."""
        with self._news:
            assert self._news.wait_for(lambda: self.calls[name] >= count, timeout=20), (
                f"{count} x {name} expected, there were {dict(self.calls)}"
            )

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._socks.append(sock)
            self._start(self._serve, Peer(sock))

    def _serve(self, peer: Peer) -> None:
        decoder = Decoder(1 << 20)
        with suppress(OSError):
            while True:
                data, descriptors = receive(peer.sock)
                if not data:
                    break
                decoder.feed(data, descriptors)
                for message in decoder.messages():
                    try:
                        self._handle(
                            peer, pb.Frame.FromString(message.payload), message.descriptors
                        )
                    finally:
                        message.close()
        decoder.close()

    def _handle(self, peer: Peer, frame: pb.Frame, descriptors: tuple[int, ...]) -> None:
        kind = frame.WhichOneof("body") or ""
        name = frame.call.method if kind == "call" else kind
        with self._news:
            self.calls[name] += 1
            self.requests[name] = frame.call.request
            self._news.notify_all()
        if kind == "hello":
            self.hellos.append(frame.hello.client)
            (self.greet or self._welcome)(peer)
        elif name == "Session/ArmDeathNotice" and name not in self.handlers:
            peer.id = frame.id
            peer.reply(pb.ArmDeathNoticeResponse())
        elif handler := self.handlers.get(name):
            peer.id = frame.id
            handler(peer, frame.call.request, descriptors)

    def _welcome(self, peer: Peer) -> None:
        memory = os.memfd_create("death")
        os.ftruncate(memory, 4096)
        try:
            peer.send(pb.Frame(welcome=self.welcome), (memory,))
        finally:
            os.close(memory)


@contextmanager
def fake_broker(**handlers: Handler) -> Iterator[FakeBroker]:
    """Handlers by method name, e.g. `Leases_List=...`."""
    with tempfile.TemporaryDirectory(prefix="fb", dir="/tmp") as folder:
        named = {name.replace("_", "/"): handler for name, handler in handlers.items()}
        with FakeBroker(str(Path(folder, "b.sock")), named) as broker:
            yield broker


def replies(response: object) -> Handler:
    """Answers every call with this message."""
    return lambda peer, request, fds: peer.reply(response)  # type: ignore[arg-type]  # any message
