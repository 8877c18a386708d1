"""What one broker process leaves of a connection to the next, which goes on with it."""

import socket
from dataclasses import dataclass
from typing import Final

# What a successor can begin anew without the caller noticing: nothing has come of it yet. These may take
# long, and go on until the last moment.
REPEATABLE: Final = frozenset(
    {
        "Leases/Acquire",
        "Leases/Watch",
        "Devices/Watch",
        "Devices/WatchProcesses",
        "Devices/Utilization",
        "Admin/Drain",
    }
)

# The same, but these are under way in processes that end before.
WITHDRAWN: Final = frozenset({"Session/LoadProgram"})

Parcel = tuple[bytes, list[int]]  # bytes of the stream, and the descriptors that go with them


@dataclass(frozen=True, slots=True)
class Pending:
    """A call to be made again: its frame, its descriptors, and when it came, of the monotonic clock."""

    since: float
    frame: bytes
    descriptors: list[int]


@dataclass(frozen=True, slots=True)
class Left:
    """What one broker process leaves of a connection to the next. `received` is less than a frame, or
    frames that nobody looked at; `unsent` is what the client has not taken yet.
    """

    socket: socket.socket
    pending: list[Pending]
    received: Parcel
    unsent: list[Parcel]
