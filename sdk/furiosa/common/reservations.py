"""Cores that are set aside for processes still to come."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.views import Container

# Names in the folder of grant files, which say what a process may in whose container they are mounted
MANAGER: Final = "manager"  # reserve
DEVICES: Final = "devices"  # a folder; "devices/<device file>": lease that, and nothing else
RESERVATIONS: Final = "reservations"  # a folder; "reservations/<id>": lease the cores of that


class ReservationState(Enum):
    OPEN = "open"  # nobody has come for it yet
    BOUND = "bound"  # its cores are for one pod, or container


@dataclass(frozen=True, slots=True)
class ReservationView:
    """`container` is whose it is when it is BOUND; None then: a process outside of containers.

    `pids` are the processes that may lease its cores, ascending, as of a second ago or later;
    `created_at` is seconds since the epoch. `grant` is the path, on the broker's machine, of the file
    that opens the reservation to a container it is mounted in.
    """

    id: str
    device_files: tuple[DeviceFile, ...]
    manager: str
    name: str
    label: str
    state: ReservationState
    container: Container | None
    pids: tuple[int, ...]
    created_at: float
    grant: str


@dataclass(frozen=True, slots=True)
class GrantsView:
    """Paths on the broker's machine: of the folder of grant files, and of the broker's gRPC socket."""

    folder: str
    socket: str

    @property
    def socket_folder(self) -> str:
        """What to mount, so that sockets which are made anew are there too."""
        return self.socket.rpartition("/")[0]
