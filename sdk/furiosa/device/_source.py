"""Who is asked about cards: a broker, or the device tree itself. Everything here may block.

Nothing is kept between calls but what a card is, so a device outlives restarts of the broker and forks.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from furiosa.common import errors as broker
from furiosa.common.names import DeviceFile
from furiosa.common.views import CardPart, CardTexts, CoreState, DeviceView
from furiosa.device._core.values import CoreStatus, CoreStatusType
from furiosa.device.errors import (
    BrokerError,
    DeviceNotFound,
    IncompatibleDriver,
    IoError,
    PermissionDenied,
)
from furiosa.sysfs import Card, DeviceFault, collect, discover, tree

if TYPE_CHECKING:
    from furiosa.client.sync import Connection

ROOT_VARIABLE: Final = "FURIOSA_DEVICE_ROOT"
CLIENT: Final = "furiosa-device"

Statuses = Mapping[int, CoreStatus]  # by core
_AVAILABLE: Final = CoreStatus(CoreStatusType.Available)
_UNAVAILABLE: Final = CoreStatus(CoreStatusType.Unavailable)


class Source(Protocol):
    """Methods raise DeviceError."""

    def cards(self) -> tuple[Card, ...]:
        """By index."""
        ...

    def texts(self, card: Card, part: CardPart) -> CardTexts: ...

    def statuses(self, card: Card) -> Statuses: ...

    def status(self, card: Card, core: int) -> CoreStatus: ...

    def path(self, file: DeviceFile) -> str:
        """Absolute."""
        ...

    def named(self, name: str) -> DeviceFile:
        """The file of that name, if it can be opened now."""
        ...


def source(environ: Mapping[str, str]) -> Source:
    """FURIOSA_DEVICE_ROOT names a folder with dev and sys: that one. Else the broker that FURIOSA_BROKER
    names, or that of the machine; without one the machine's own cards. Without any the user's own broker
    with virtual cards, which is started if need be, as by `furiosactl`.
    """
    root = environ.get(ROOT_VARIABLE)
    if root:
        return Tree(Path(root))
    from furiosa.client.address import SYSTEM, from_environment

    with _told():
        address = from_environment(environ)
    if address is None and not os.path.exists(SYSTEM.path):
        machine = Tree(Path("/"))
        if machine.cards():
            return machine
    return Broker()


class Broker:
    """Connects for each question: nothing is held meanwhile."""

    def cards(self) -> tuple[Card, ...]:
        with _connected() as connection:
            return tuple(map(_card, connection.devices()))

    def texts(self, card: Card, part: CardPart) -> CardTexts:
        with _connected() as connection:
            return connection.inspect(card.index, part)

    def statuses(self, card: Card) -> Statuses:
        with _connected() as connection:
            for view in connection.devices():
                if view.index == card.index:
                    return {core.core: _status(core.state, core.device_file) for core in view.cores}
        raise DeviceNotFound(f"Device npu{card.index} not found")

    def status(self, card: Card, core: int) -> CoreStatus:
        return self.statuses(card)[core]

    def path(self, file: DeviceFile) -> str:
        return f"/dev/{file}"

    def named(self, name: str) -> DeviceFile:
        for card in self.cards():
            for file in card.device_files:
                if str(file) == name:
                    cores = (s for core, s in self.statuses(card).items() if core in file.cores)
                    if any(s.status_type is CoreStatusType.Occupied for s in cores):
                        raise IoError(
                            f"IoError: [Errno {errno.EBUSY}] {os.strerror(errno.EBUSY)}: {name!r}"
                        )
                    return file
        raise DeviceNotFound(f"Device {name} not found")


class Tree:
    """The device tree under `root`. Whether a core can be had is found by opening its file, which lasts
    a moment and takes it from nobody.
    """

    def __init__(
        self,
        root: Path,
        *,
        is_device: Callable[[Path], bool] = Path.is_char_device,
        opened: Callable[[str, int], int] = os.open,
    ) -> None:
        self._root = root.absolute()
        self._is_device = is_device
        self._opened = opened

    def cards(self) -> tuple[Card, ...]:
        with _read():
            return discover(self._root, is_device=self._is_device)

    def texts(self, card: Card, part: CardPart) -> CardTexts:
        with _read():
            return collect(self._root, card, part)

    def statuses(self, card: Card) -> Statuses:
        return {core: self.status(card, core) for core in card.cores}

    def status(self, card: Card, core: int) -> CoreStatus:
        for file in card.device_files:
            if file.cores.width == 1 and core in file.cores:
                return self._status(file)
        raise DeviceNotFound(f"Device npu{card.index}pe{core} not found")

    def path(self, file: DeviceFile) -> str:
        return str(tree.node(self._root, file))

    def named(self, name: str) -> DeviceFile:
        path = tree.nodes(self._root) / name
        if not path.exists():
            raise DeviceNotFound(f"Device {name} not found")
        if not (tree.is_emulated(self._root) or self._is_device(path)):
            raise IncompatibleDriver(
                f"Incompatible device driver: {path} is not a valid device file"
            )
        try:
            file = DeviceFile.parse(name)
        except broker.BadDeviceFile:
            raise IncompatibleDriver(
                f"Incompatible device driver: {name} file cannot be recognized"
            ) from None
        with _read():
            self._open(file)
        return file

    def _status(self, file: DeviceFile) -> CoreStatus:
        try:
            self._open(file)
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                return CoreStatus(CoreStatusType.Occupied, str(file))
            with _read():
                raise
        return _AVAILABLE

    def _open(self, file: DeviceFile) -> None:
        os.close(self._opened(self.path(file), os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))


def _card(view: DeviceView) -> Card:
    return Card(
        index=view.index,
        architecture=view.architecture,
        origin=view.origin,
        uuid=view.uuid,
        serial_number=view.serial_number,
        firmware_version=view.firmware_version,
        driver_version=view.driver_version,
        pci_bdf=view.pci_bdf,
        pci_dev=view.pci_dev,
        numa_node=view.numa_node,
        device_files=view.device_files,
        cores=tuple(core.core for core in view.cores),
        incarnation=0,
    )


def _status(state: CoreState, file: DeviceFile | None) -> CoreStatus:
    if state is CoreState.OCCUPIED:
        return CoreStatus(CoreStatusType.Occupied, str(file))
    return _AVAILABLE if state is CoreState.AVAILABLE else _UNAVAILABLE


@contextmanager
def _connected() -> "Iterator[Connection]":
    from furiosa.client.sync import Connection  # with protobuf, which real cards do not need

    with _told(), Connection.open(client=CLIENT) as connection:
        yield connection


@contextmanager
def _told() -> Iterator[None]:
    """What the broker says, as errors of this package."""
    try:
        yield
    except broker.UnknownDevice as error:
        raise DeviceNotFound(str(error)) from error
    except broker.FuriosaError as error:
        raise BrokerError(str(error)) from error


@contextmanager
def _read() -> Iterator[None]:
    """What the system says, as errors of this package."""
    try:
        yield
    except OSError as error:
        kind = PermissionDenied if isinstance(error, PermissionError) else IoError
        raise kind(str(DeviceFault.of(error))) from error
