"""What both sides of the API see of devices, leases and programs: frozen values, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from furiosa.common.names import DeviceFile
from furiosa.common.tensor import TensorSpec


class Architecture(Enum):
    WARBOY = "warboy"


class Origin(Enum):
    HARDWARE = "hardware"
    EMULATED = "emulated"


class Health(Enum):
    ALIVE = "alive"
    DEAD = "dead"


class Availability(Enum):
    AVAILABLE = "available"
    CORDONED = "cordoned"
    UNAVAILABLE = "unavailable"


class CoreState(Enum):
    AVAILABLE = "available"
    OCCUPIED = "occupied"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class CoreView:
    core: int
    state: CoreState
    device_file: DeviceFile | None = None  # the file an OCCUPIED core is held through

    def __str__(self) -> str:
        """Source: devices reference 4; the file named is the one really leased, e.g. npu0pe0-1."""
        if self.state is CoreState.OCCUPIED:
            return f"occupied by {self.device_file}"
        return str(self.state.value)


@dataclass(frozen=True, slots=True)
class DeviceView:
    index: int
    architecture: Architecture
    origin: Origin
    health: Health
    uuid: str
    serial_number: str
    firmware_version: str
    driver_version: str
    pci_bdf: str
    pci_dev: str
    numa_node: int
    temperature_millicelsius: int | None
    power_microwatts: int | None
    cores: tuple[CoreView, ...]
    device_files: tuple[DeviceFile, ...]
    availability: Availability = Availability.AVAILABLE
    reason: str = ""  # of an availability other than AVAILABLE

    @property
    def name(self) -> str:
        return f"npu{self.index}"


class CardPart(Enum):
    """Of what a card says of itself."""

    CARD = "card"  # its own files, such as alive
    SENSORS = "sensors"
    COUNTERS = "counters"  # of each device file


@dataclass(frozen=True, slots=True)
class CardTexts:
    """One part: the texts of its files by name, and what went wrong with the others.

    For counters the names are those of the device files. `at_ns` is on a clock of the card's machine.
    """

    at_ns: int
    files: Mapping[str, str]
    failures: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Container:
    """What the cgroup of a process tells; `pod_uid` is empty outside Kubernetes."""

    runtime: str
    id: str
    pod_uid: str = ""


@dataclass(frozen=True, slots=True)
class OwnerView:
    """A local process; of a remote client `pid` is 0, `remote` its address and `subject` its proven name."""

    pid: int
    uid: int
    gid: int
    start_time_ticks: int
    command_line: str
    container: Container | None = None
    remote: str = ""
    subject: str = ""


class LeaseState(Enum):
    GRANTED = "granted"
    DETACHED = "detached"  # its connection is gone; its owner may come back
    EXPIRING = "expiring"  # its time to live is over; it may still be renewed
    RECALLED = "recalled"  # taken back; it may be used for a moment more
    REVOKING = "revoking"  # its workers are being stopped
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class LeaseView:
    """Times are seconds since the epoch, for people."""

    id: str
    device_files: tuple[DeviceFile, ...]
    state: LeaseState
    owner: OwnerView
    granted_at: float
    tenant: str = ""
    priority: int = 0
    ends_at: float | None = None  # when the state ends by itself; None: never
    cause: str = ""  # why it is no longer granted


@dataclass(frozen=True, slots=True)
class WaiterView:
    """A request in the queue. Times are seconds since the epoch, for people."""

    position: int  # 1: nobody is ahead who wants any of the same devices
    device_spec: str
    tenant: str
    priority: int
    owner: OwnerView
    since: float
    deadline: float | None  # None: it waits for ever
    reason: str  # what it waits for
    session: int


@dataclass(frozen=True, slots=True)
class LeaseOverview:
    """Leases that have not ended, oldest first, and who waits, in the order of the queue."""

    leases: tuple[LeaseView, ...]
    waiters: tuple[WaiterView, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class ProcessView:
    device_file: DeviceFile
    pid: int
    command_line: str
    lease_id: str  # empty: held without a lease
    remote: str = ""


@dataclass(frozen=True, slots=True)
class UtilizationView:
    device_file: DeviceFile
    window_ns: int
    npu_fraction: float  # of the window
    computation_fraction: float  # of the time in use
    io_fraction: float  # of the time in use
    pid: int
    command_line: str
    observed_at_ns: int  # since the epoch


@dataclass(frozen=True, slots=True)
class ProgramView:
    id: int
    lease_id: str
    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    enf_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerDiedNotice:
    lease_id: str
    device_file: DeviceFile
    cause: str


@dataclass(frozen=True, slots=True)
class LeaseEndedNotice:
    lease_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class LeaseRecalledNotice:
    """The lease will be taken away in `grace` seconds; while `state` is EXPIRING it may be renewed."""

    lease_id: str
    cause: str
    grace: float
    state: LeaseState


@dataclass(frozen=True, slots=True)
class QueuedNotice:
    """Where the request waits that Acquire call `call_id` of the connection made."""

    call_id: int
    position: int
    reason: str


Notice = WorkerDiedNotice | LeaseEndedNotice | LeaseRecalledNotice | QueuedNotice
LeaseNotice = WorkerDiedNotice | LeaseEndedNotice | LeaseRecalledNotice
