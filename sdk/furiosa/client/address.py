"""Where a broker is: text to an address and back, and the places where one is looked for.

Nothing here touches the disk; `embedded` makes and checks the per-user folder.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.errors import BadArgument

VARIABLE: Final = "FURIOSA_BROKER"
MAX_SOCKET_PATH: Final = 107  # bytes: sun_path holds 108 with its NUL

_UNIX = re.compile(r"(?:unix:(?://)?)?(/(?!/).*)", re.DOTALL)  # gRPC writes unix:///path
_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", re.ASCII)
_EXPECTED = "unix:/path, /path or host:port"


class Address:
    """A `UnixAddress` or a `TcpAddress`; `str()` gives what `parse` takes."""

    __slots__ = ()

    @staticmethod
    def parse(text: str, source: str = "broker address") -> "UnixAddress | TcpAddress":
        """Raises: BadArgument, naming `source`."""
        if match := _UNIX.fullmatch(text):
            return _unix(match[1], source)
        match = _TCP.fullmatch(text)
        if match is None or not 0 < int(match[3]) < 65_536:
            raise BadArgument(source, repr(text), _EXPECTED)
        return TcpAddress(match[1] or match[2], int(match[3]))


@dataclass(frozen=True, slots=True)
class UnixAddress(Address):
    """A broker on this machine. `path` is its gRPC socket, absolute."""

    path: str

    @property
    def handoff(self) -> str:
        """The socket for sessions and descriptors, beside the gRPC one."""
        return f"{self.path}.handoff"

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress(Address):
    """A broker on another machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


SYSTEM: Final = UnixAddress("/run/furiosa/broker.sock")


def from_environment(environ: Mapping[str, str]) -> Address | None:
    """What FURIOSA_BROKER says; None when it is unset or empty. Raises: BadArgument."""
    text = environ.get(VARIABLE, "")
    return Address.parse(text, VARIABLE) if text else None


def user_folder(runtime_folder: str | None, temp_folder: Callable[[], str], uid: int) -> str:
    """Home of the per-user broker. `runtime_folder`: $XDG_RUNTIME_DIR, when it is the user's."""
    if runtime_folder is not None:
        return os.path.join(runtime_folder, "furiosa")
    return os.path.join(temp_folder(), f"furiosa-{uid}")


def in_folder(folder: str) -> UnixAddress:
    """The broker whose home is `folder`. Raises: BadArgument when that makes too long a path."""
    return _unix(os.path.join(folder, "broker.sock"), "socket path")


def _unix(path: str, source: str) -> UnixAddress:
    address = UnixAddress(path)
    length = len(os.fsencode(address.handoff))
    if length > MAX_SOCKET_PATH:
        found = f"{path!r}, whose socket {address.handoff!r} has {length} bytes"
        raise BadArgument(source, found, f"{MAX_SOCKET_PATH} bytes or less, a limit of the kernel")
    if "\0" in path:
        raise BadArgument(source, repr(path), "a path without NUL")
    return address
