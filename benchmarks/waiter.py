"""Many waiting clients in one process: `python -m benchmarks.waiter CONNECTIONS`, told on stdin.

Each is a connection of its own to the handoff socket, by hand as docs/wire.md describes it, so that
every frame that the broker sends is seen. "wait" makes all of them ask for the one core; who gets it
gives it back at once and asks again, until "stop".
"""

import json
import os
import selectors
import socket
import sys
from dataclasses import dataclass, field

from benchmarks.client import FOR_EVER_SECONDS
from furiosa.common.channel import Decoder, encode, receive
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import leases_pb2

MAX_FRAME = 1 << 24
DEVICE = "npu:0:0"


@dataclass(slots=True)
class Waiter:
    """Asks for `device`, and waits for it or does not; `frames` and `grants` are those it got."""

    sock: socket.socket
    device: str = DEVICE
    waits: bool = False
    decoder: Decoder = field(default_factory=lambda: Decoder(MAX_FRAME))
    calls: dict[int, str] = field(default_factory=dict)  # open ones: their methods
    last: int = 0
    frames: int = 0
    grants: int = 0

    def hello(self) -> None:
        self.send(pb.Frame(hello=pb.Hello(protocol_version=1, client="benchmark")))

    def acquire(self) -> None:
        request = leases_pb2.AcquireRequest(device_spec=self.device)
        if self.waits:
            request.wait_limit.seconds = FOR_EVER_SECONDS
        self.call("Leases/Acquire", request.SerializeToString())

    def release(self, lease: str) -> None:
        request = leases_pb2.ReleaseRequest(lease_id=lease)
        self.call("Leases/Release", request.SerializeToString())

    def call(self, method: str, request: bytes) -> None:
        self.last += 1
        self.calls[self.last] = method
        self.send(pb.Frame(id=self.last, call=pb.Call(method=method, request=request)))

    def send(self, frame: pb.Frame) -> None:
        self.sock.sendall(encode(frame.SerializeToString()))

    def read(self) -> list[pb.Frame]:
        data, descriptors = receive(self.sock)
        if not data:
            raise RuntimeError("the broker hung up")
        self.decoder.feed(data, descriptors)
        frames = []
        for message in self.decoder.messages():
            message.close()
            frames.append(pb.Frame.FromString(message.payload))
        self.frames += len(frames)
        return frames


def connect() -> Waiter:
    """To the broker that FURIOSA_BROKER says."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(f"{os.environ['FURIOSA_BROKER'].removeprefix('unix:')}.handoff")
    waiter = Waiter(sock)
    waiter.hello()
    waiter.read()
    return waiter


class Crowd:
    def __init__(self, count: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.waiters = [connect() for _ in range(count)]
        for waiter in self.waiters:
            waiter.waits = True
            self.selector.register(waiter.sock, selectors.EVENT_READ, waiter)

    def wait(self) -> None:
        """Returns when the broker knows that all of them wait: it takes calls in order."""
        for waiter in self.waiters:
            waiter.acquire()
            waiter.release("none")
        for waiter in self.waiters:
            (failure,) = waiter.read()
            del waiter.calls[failure.id]
            waiter.frames = 0

    def serve(self) -> None:
        """Until there is something to read on stdin."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                for frame in key.data.read():
                    self._take(key.data, frame)

    def _take(self, waiter: Waiter, frame: pb.Frame) -> None:
        method = waiter.calls.pop(frame.id, "")
        if method == "Leases/Acquire":
            waiter.grants += 1
            waiter.release(leases_pb2.AcquireResponse.FromString(frame.reply.response).lease.id)
            waiter.acquire()

    def result(self) -> dict[str, int]:
        """Frames that came for no call of ours count like all others."""
        return {
            "grants": sum(waiter.grants for waiter in self.waiters),
            "frames": sum(waiter.frames for waiter in self.waiters),
        }


def main() -> None:
    crowd = Crowd(int(sys.argv[1]))
    print("connected", flush=True)
    sys.stdin.readline()
    crowd.wait()
    print("waiting", flush=True)
    crowd.serve()
    print(json.dumps(crowd.result()), flush=True)


if __name__ == "__main__":
    main()
