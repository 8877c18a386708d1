"""What a container is given so that its processes may lease cores, whoever starts it. PURE."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView
from furiosa.common.views import DeviceView, Origin

SOCKETS: Final = "/run/furiosa"  # in the container
GRANTS: Final = PurePosixPath("/dev/furiosa")  # in the container
_BESIDE: Final = ("{card}_mgmt", "{card}ch0", "{card}ch1", "{card}ch2", "{card}ch3")


@dataclass(frozen=True, slots=True)
class Mount:
    """A read-only bind mount."""

    host_path: str
    container_path: str


@dataclass(frozen=True, slots=True)
class Access:
    """`common` are for every container, however many grants it has; `own` are those of one grant."""

    common_env: Mapping[str, str]
    common_mounts: tuple[Mount, ...]
    own_env: Mapping[str, str]
    own_mounts: tuple[Mount, ...]


def access(
    files: Sequence[DeviceFile], grants: Iterable[str], where: GrantsView, part: str = ""
) -> Access:
    """To lease `files`, which the grant files at the paths `grants` allow.

    `part` is the name of this part where a container may be given several, each by itself: variables of
    different parts have different names, and the SDK takes all of them together.
    """
    return Access(
        common_env={"FURIOSA_BROKER": f"unix:{SOCKETS}/{PurePosixPath(where.socket).name}"},
        common_mounts=(Mount(where.socket_folder, SOCKETS),),
        own_env={
            variable("FURIOSA_DEVICES", part): ",".join(map(str, files)),
            variable("NPU_DEVNAME", part): str(files[0]),
        },
        own_mounts=tuple(
            Mount(path, str(GRANTS / PurePosixPath(path).name)) for path in dict.fromkeys(grants)
        ),
    )


def variable(name: str, part: str) -> str:
    """FURIOSA_DEVICES and "npu0pe0-1" is FURIOSA_DEVICES_NPU0PE0_1."""
    return f"{name}_{re.sub(r'[^A-Z0-9]', '_', part.upper())}" if part else name


def device_nodes(cards: Iterable[DeviceView], files: Iterable[DeviceFile]) -> tuple[str, ...]:
    """Of real cards, the paths of what the vendor's runtime opens to use `files`; a virtual card has none."""
    wanted = tuple(files)
    found: list[str] = []
    for card in cards:
        mine = [str(file) for file in wanted if file.npu == card.index]
        if mine and card.origin is Origin.HARDWARE:
            found += mine
            found += [name.format(card=card.name) for name in _BESIDE]
    return tuple(f"/dev/{name}" for name in found)
