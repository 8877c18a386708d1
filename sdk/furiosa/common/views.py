"""What both sides of the API see of devices, leases and programs: frozen values, no behaviour."""

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

    @property
    def name(self) -> str:
        return f"npu{self.index}"


@dataclass(frozen=True, slots=True)
class OwnerView:
    pid: int
    uid: int
    gid: int
    start_time_ticks: int
    command_line: str


class LeaseState(Enum):
    GRANTED = "granted"
    REVOKING = "revoking"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class LeaseView:
    id: str
    device_files: tuple[DeviceFile, ...]
    state: LeaseState
    owner: OwnerView
    granted_at: float  # seconds since the epoch, for people


@dataclass(frozen=True, slots=True)
class ProcessView:
    device_file: DeviceFile
    pid: int
    command_line: str
    lease_id: str


@dataclass(frozen=True, slots=True)
class UtilizationView:
    device_file: DeviceFile
    window_ns: int
    npu_fraction: float  # of the window
    computation_fraction: float  # of the time in use
    io_fraction: float  # of the time in use
    pid: int
    command_line: str
    observed_at: float  # seconds since the epoch


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


Notice = WorkerDiedNotice | LeaseEndedNotice
