"""Devices and processes as the tables want them: attributes as of the views of the same name.

Source: types.proto (numbers of fields and of enum values), devices.proto.
"""

from __future__ import annotations

from furiosa.cli.quick.protobuf import fields, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from furiosa.cli.quick.protobuf import Value

EMULATED: Final = 2
_ARCHITECTURES: Final = {1: "warboy"}
_ORIGINS: Final = {1: "hardware", 2: "emulated"}
_AVAILABILITIES: Final = {1: "available", 2: "cordoned", 3: "unavailable"}
_STATES: Final = {1: "available", 2: "occupied", 3: "unavailable"}


class Named:
    """A member of an enum."""

    __slots__ = ("value",)

    def __init__(self, names: dict[int, str], number: Value) -> None:
        """Raises: KeyError for a number that is not among `names`."""
        assert isinstance(number, int)
        self.value = names[number]


class File(str):
    """A device file's name, in the order of those of a card."""

    __slots__ = ()

    @property
    def sort_key(self) -> tuple[int, int, int]:
        """The whole card, then narrower ranges, then lower ones."""
        first, _, last = self.partition("pe")[2].partition("-")
        if not first:
            return 0, 0, 0
        return 1, int(last or first) - int(first), int(first)


class Core:
    __slots__ = ("core", "device_file", "state")

    def __init__(self, message: Value) -> None:
        found = dict(_fields(message))
        self.core = _number(found, 1)
        self.state = Named(_STATES, found.get(2, 0))
        self.device_file = _text(found, 3)

    def __str__(self) -> str:
        if self.state.value == "occupied":
            return f"occupied by {self.device_file}"
        return self.state.value


class Device:
    def __init__(self, message: Value) -> None:
        cores, files, found = [], [], {}
        for number, value in _fields(message):
            if number == 14:
                cores.append(Core(value))
            elif number == 15:
                assert isinstance(value, bytes)
                files.append(File(value.decode()))
            else:
                found[number] = value
        self.index = _number(found, 1)
        self.name = f"npu{self.index}"
        self.architecture = Named(_ARCHITECTURES, found.get(2, 0))
        self.origin = Named(_ORIGINS, found.get(3, 0))
        self.uuid = _text(found, 5)
        self.serial_number = _text(found, 6)
        self.firmware_version = _text(found, 7)
        self.pci_bdf = _text(found, 9)
        self.pci_dev = _text(found, 10)
        self.temperature_millicelsius = signed(_number(found, 12)) if 12 in found else None
        self.power_microwatts = _number(found, 13) if 13 in found else None
        self.cores = cores
        self.device_files = files
        self.availability = Named(_AVAILABILITIES, found.get(16, 0))
        self.reason = _text(found, 17)


class Process:
    __slots__ = ("command_line", "device_file", "lease_id", "pid", "remote")

    def __init__(self, message: Value) -> None:
        found = dict(_fields(message))
        self.device_file = _text(found, 1)
        self.pid = _number(found, 2)
        self.command_line = _text(found, 3)
        self.lease_id = _text(found, 4)
        self.remote = _text(found, 5)


def devices(response: bytes) -> list[Device]:
    """Of a ListDevicesResponse. Raises: ValueError, KeyError."""
    return [Device(message) for number, message in fields(response) if number == 1]


def processes(response: bytes) -> list[Process]:
    """Of a ListProcessesResponse. Raises: ValueError."""
    return [Process(message) for number, message in fields(response) if number == 1]


def _fields(message: Value) -> list[tuple[int, Value]]:
    if not isinstance(message, bytes):
        raise ValueError("a number where a message should be")
    return list(fields(message))


def _text(found: dict[int, Value], number: int) -> str:
    value = found.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is no text")
    return value.decode()


def _number(found: dict[int, Value], number: int) -> int:
    value = found.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value
