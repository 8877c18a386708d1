"""Brokers on other machines, over gRPC. Nobody pays for that library before `connect`.

`credentials` is who we are, `bridge` speaks frames to the session and gRPC to the broker, `uplink` is
the gRPC half of it, `failures` puts gRPC's errors into words.
"""

import atexit
import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Final

from furiosa.client.address import TcpAddress

if TYPE_CHECKING:
    from furiosa.client.remote.ear import Ear

LEAVE_SECONDS: Final = 1.0  # for a bridge to end with the process

_bridges: dict[threading.Thread, "Ear"] = {}
os.register_at_fork(after_in_child=_bridges.clear)  # they are the parent's


def connect(address: TcpAddress) -> socket.socket:
    """A socket that speaks as the handoff socket of the broker at `address` would, at once.

    Whether the broker can be reached, and lets us in, is the answer to the first frame. What needs
    descriptors is refused, but for programs: those travel.
    """
    from furiosa.client.remote.ear import Ear

    ours, theirs = socket.socketpair()
    ear = Ear(ours)

    def run() -> None:
        # here, not in the caller: it takes 120 ms, in which an event loop must not stand still
        from furiosa.client.remote.bridge import serve

        try:
            serve(theirs, address, os.environ, ear.hear)
        finally:
            _bridges.pop(thread, None)

    thread = threading.Thread(target=run, name=f"broker {address}", daemon=True)
    _bridges[thread] = ear
    thread.start()
    return ear


@atexit.register
def _leave() -> None:
    """Have every channel closed before the interpreter is taken down: TLS in gRPC waits two seconds else."""
    for thread, ear in tuple(_bridges.items()):
        with contextlib.suppress(OSError):
            ear.shutdown(socket.SHUT_RDWR)
        thread.join(LEAVE_SECONDS)
