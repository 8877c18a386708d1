"""Frames on one side, gRPC on the other: a session with a broker on another machine.

What a session relies on holds here, too: answers to calls, the newest states of streams, notices, and
that after a later call was answered no answer to a withdrawn one will follow.
"""

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from furiosa.client.address import TcpAddress
from furiosa.client.remote.credentials import Credentials
from furiosa.client.remote.failures import failed_of, unavailable
from furiosa.client.remote.uplink import Underway, Uplink
from furiosa.common import channel
from furiosa.common.channel import BrokenChannel, Decoder, Message
from furiosa.common.errors import BadArgument, FuriosaError
from furiosa.common.failures import failed_to_wire
from furiosa.common.status import Failed, to_failed
from furiosa.proto.broker.v1 import (
    admin_pb2,
    devices_pb2,
    handoff_pb2,
    leases_pb2,
    programs_pb2,
    sessions_pb2,
)

MAX_FRAME_BYTES: Final = 16 * 1024**2

# By name: whether its answers are a stream. Programs/Load is not asked for in frames.
METHODS: Final[Mapping[str, bool]] = {
    f"{service.name}/{method.name}": method.server_streaming
    for module in (admin_pb2, devices_pb2, leases_pb2, programs_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming
}
UNDOABLE: Final = frozenset({"Leases/Acquire"})  # lost, its answer would leave something behind


def serve(
    sock: socket.socket,
    address: TcpAddress,
    environ: Mapping[str, str],
    on_end: Callable[[str], None],
) -> None:
    """Takes the socket; returns when either side has ended. `on_end` hears why, if the broker did."""
    bridge = _Bridge(sock, address, environ, on_end)
    try:
        bridge.run()
    except (OSError, BrokenChannel, DecodeError):
        pass  # the session ended
    finally:
        bridge.close()


class _Bridge:
    def __init__(
        self,
        sock: socket.socket,
        address: TcpAddress,
        environ: Mapping[str, str],
        on_end: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._address = address
        self._environ = environ
        self._on_end = on_end
        self._credentials = Credentials(tls=True)
        self._uplink: Uplink | None = None
        self._streams: dict[int, Any] = {}
        self._calls: dict[int, Underway] = {}
        self._withdrawn: set[int] = set()
        self._held_back: deque[tuple[handoff_pb2.Frame, Message]] = deque()
        self._lock = threading.RLock()  # of the tables; a call may end while it is begun
        self._writing = threading.Lock()

    def run(self) -> None:
        """Read frames until the session hangs up."""
        decoder = Decoder(MAX_FRAME_BYTES)
        try:
            while True:
                data, descriptors = channel.receive(self._sock)
                if not data:
                    return
                decoder.feed(data, descriptors)
                for message in decoder.messages():
                    self._take(handoff_pb2.Frame.FromString(message.payload), message)
        finally:
            decoder.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # threads that still write find out
        with self._lock:
            held_back, self._held_back = self._held_back, deque()
            self._withdrawn.clear()
        for _, message in held_back:
            message.close()
        if self._uplink is not None:
            self._uplink.close()
        with self._writing:
            self._sock.close()

    def _take(self, frame: handoff_pb2.Frame, message: Message) -> None:
        kind = frame.WhichOneof("body")
        if kind == "call":
            with self._lock:
                if self._withdrawn:
                    self._held_back.append((frame, message))
                else:
                    self._begin(frame, message)
            return
        message.close()
        if kind == "hello":
            self._greet(frame.hello)
        elif kind == "cancel":
            self._cancel(frame.id)

    def _greet(self, hello: handoff_pb2.Hello) -> None:
        try:
            self._credentials = Credentials.load(self._address, self._environ)
        except FuriosaError as exc:
            self._fail(0, to_failed(exc))
            return
        self._uplink = Uplink(self._address, self._credentials)
        attached = self._uplink.stream("Sessions/Attach", hello.SerializeToString())
        threading.Thread(target=self._follow, args=(attached,), daemon=True).start()

    def _follow(self, attached: Any) -> None:
        """The stream that is the session, in a thread of its own."""
        greeted = False
        try:
            for data in attached:
                response = sessions_pb2.AttachResponse.FromString(data)
                if response.WhichOneof("message") == "notice":
                    self._send(handoff_pb2.Frame(notice=response.notice))
                else:
                    self._welcome(response.welcome)
                    greeted = True
            failed = unavailable(str(self._address), "it ended the session")
        except grpc.RpcError as exc:
            failed = failed_of(exc, str(self._address), self._credentials)
        except OSError:
            return  # the session ended
        except (DecodeError, ValueError) as exc:
            failed = unavailable(str(self._address), f"it sent no sound message: {exc}")
        if greeted:
            self._on_end(failed.fields.get("cause", failed.message))
        else:
            self._fail(0, failed)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _welcome(self, welcome: handoff_pb2.Welcome) -> None:
        assert self._uplink is not None
        self._uplink.act_for(welcome.session_token)
        welcome.grpc_target = welcome.grpc_target or str(self._address)
        if welcome.data_target.startswith(":"):  # its host is the one that we know it by
            port = int(welcome.data_target[1:])
            welcome.data_target = str(TcpAddress(self._address.host, port))
        nothing = os.memfd_create("nothing", os.MFD_CLOEXEC)  # no death notice: no memory for it
        try:
            self._send(handoff_pb2.Frame(welcome=welcome), nothing)
        finally:
            os.close(nothing)

    def _begin(self, frame: handoff_pb2.Frame, message: Message) -> None:
        name, request = frame.call.method, frame.call.request
        if self._uplink is None:
            message.close()
            return
        if name == "Session/LoadProgram" and len(message.descriptors) == 1:
            (memory,) = message.descriptors
            asked = handoff_pb2.LoadProgramDescriptorRequest.FromString(request)
            header = programs_pb2.LoadProgramHeader(
                lease_id=asked.lease_id,
                enf_bytes=os.fstat(memory).st_size,
                traced=asked.traced,
            )
            first = programs_pb2.LoadProgramRequest(header=header).SerializeToString()
            self._await(frame.id, self._uplink.upload("Programs/Load", first, memory, _chunk))
            return
        message.close()
        if (streams := METHODS.get(name)) is None:
            expected = "one on its own machine (a Unix socket): descriptors do not travel by TCP"
            self._fail(
                frame.id, to_failed(BadArgument(f"the broker for {name}", "remote", expected))
            )
        elif streams:
            stream = self._uplink.stream(name, request)
            self._streams[frame.id] = stream
            threading.Thread(target=self._watch, args=(frame.id, stream), daemon=True).start()
        elif name in UNDOABLE:
            self._await(frame.id, self._uplink.undoable(frame.id, name, request))
        else:
            self._await(frame.id, self._uplink.unary(name, request))

    def _await(self, number: int, call: Underway) -> None:
        self._calls[number] = call
        call.tell(lambda response, error: self._ended(number, response, error))

    def _watch(self, number: int, stream: Any) -> None:
        try:
            for response in stream:
                self._send(handoff_pb2.Frame(id=number, reply=handoff_pb2.Reply(response=response)))
            self._send(handoff_pb2.Frame(id=number, end=handoff_pb2.End()))
        except grpc.RpcError as exc:
            if not stream.cancelled():
                self._fail(number, failed_of(exc, str(self._address), self._credentials))
        except OSError:
            stream.cancel()  # the session ended
        finally:
            with self._lock:
                self._streams.pop(number, None)

    def _cancel(self, number: int) -> None:
        with self._lock:
            if (stream := self._streams.get(number)) is not None:
                stream.cancel()
            if (call := self._calls.get(number)) is not None:
                self._withdrawn.add(number)
                call.withdraw()

    def _ended(self, number: int, response: bytes | None, error: Any | None) -> None:
        """A call has its outcome; none if it was cancelled."""
        if response is not None:
            reply = handoff_pb2.Reply(response=response)
            self._try_to_send(handoff_pb2.Frame(id=number, reply=reply))
        elif error is not None:
            self._fail(number, failed_of(error, str(self._address), self._credentials))
        with self._lock:
            self._calls.pop(number, None)
            self._withdrawn.discard(number)
            while self._held_back and not self._withdrawn:
                self._begin(*self._held_back.popleft())

    def _fail(self, number: int, failed: Failed) -> None:
        self._try_to_send(handoff_pb2.Frame(id=number, failure=failed_to_wire(failed)))

    def _try_to_send(self, frame: handoff_pb2.Frame) -> None:
        with contextlib.suppress(OSError):  # the session ended
            self._send(frame)

    def _send(self, frame: handoff_pb2.Frame, *descriptors: int) -> None:
        data = memoryview(channel.encode(frame.SerializeToString(), descriptors))
        with self._writing:
            sent = channel.send(self._sock, data, descriptors)
            self._sock.sendall(data[sent:])


def _chunk(data: bytes) -> bytes:
    return programs_pb2.LoadProgramRequest(chunk=data).SerializeToString()
