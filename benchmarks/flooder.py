"""One tenant at full speed: `python -m benchmarks.flooder UID CONNECTIONS`, told on stdin.

Each line is how many calls each connection keeps open from now on; an empty one ends it. What is
granted is released, what is refused is asked for again.
"""

import json
import os
import selectors
import sys

from benchmarks.waiter import Waiter, connect
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import leases_pb2


class Flood:
    """Connection n asks for core n % 2 of card 1 + n // 2."""

    def __init__(self, count: int) -> None:
        self.depth = 0
        self.done = 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        for number in range(count):
            waiter = connect()
            waiter.device = f"npu:{1 + number // 2}:{number % 2}"
            self.selector.register(waiter.sock, selectors.EVENT_READ, waiter)

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    line = sys.stdin.readline()
                    if not line.strip():
                        return
                    self.depth = json.loads(line)
                    print(json.dumps(self.done), flush=True)
                    for other in self.selector.get_map().values():
                        if other.data is not None:
                            self._fill(other.data)
                else:
                    for frame in key.data.read():
                        self._take(key.data, frame)

    def _take(self, waiter: Waiter, frame: pb.Frame) -> None:
        method = waiter.calls.pop(frame.id, "")
        self.done += bool(method)
        if method == "Leases/Acquire" and frame.WhichOneof("body") == "reply":
            waiter.release(leases_pb2.AcquireResponse.FromString(frame.reply.response).lease.id)
        else:
            self._fill(waiter)

    def _fill(self, waiter: Waiter) -> None:
        while len(waiter.calls) < self.depth:
            waiter.acquire()


def main() -> None:
    uid, connections = map(int, sys.argv[1:])
    os.setgroups([])
    os.setresuid(uid, uid, uid)
    flood = Flood(connections)
    print("connected", flush=True)
    flood.serve()


if __name__ == "__main__":
    main()
