"""What a container is given for a reservation, as the kubelet takes it. PURE."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.common.views import Origin
from furiosa.deviceplugin.offers import Unit
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

SOCKETS: Final = "/run/furiosa"  # in the container
GRANTS: Final = PurePosixPath("/dev/furiosa")  # in the container
_NODES: Final = ("{card}_mgmt", "{card}ch0", "{card}ch1", "{card}ch2", "{card}ch3")


def container_answer(
    resource: str,
    reservation: ReservationView,
    grants: GrantsView,
    units: Sequence[Unit],
    *,
    is_only_resource: bool,
) -> pb.ContainerAllocateResponse:
    """`is_only_resource`: no other resource of ours can be in the same container. Of two equal keys with
    different values the kubelet drops one, so then names of variables end with the resource's.
    """
    suffix = "" if is_only_resource else "_" + re.sub(r"[^A-Z0-9]", "_", resource.upper())
    files = reservation.device_files
    grant = PurePosixPath(reservation.grant)
    return pb.ContainerAllocateResponse(
        envs={
            "FURIOSA_BROKER": f"unix:{SOCKETS}/{PurePosixPath(grants.socket).name}",
            f"FURIOSA_DEVICES{suffix}": ",".join(map(str, files)),
            f"NPU_DEVNAME{suffix}": str(files[0]),
        },
        mounts=[
            pb.Mount(container_path=SOCKETS, host_path=grants.socket_folder, read_only=True),
            pb.Mount(container_path=str(GRANTS / grant.name), host_path=str(grant), read_only=True),
        ],
        devices=[node for unit in _by_card(units) for node in _nodes(unit, files)],
    )


def _by_card(units: Sequence[Unit]) -> list[Unit]:
    return list({unit.card.index: unit for unit in units}.values())


def _nodes(unit: Unit, files: Sequence[DeviceFile]) -> list[pb.DeviceSpec]:
    """Of a real card: what the vendor's runtime opens. A virtual one has none."""
    if unit.card.origin is not Origin.HARDWARE:
        return []
    names = [str(file) for file in files if file.npu == unit.card.index]
    names += [name.format(card=unit.card.name) for name in _NODES]
    return [
        pb.DeviceSpec(container_path=f"/dev/{name}", host_path=f"/dev/{name}", permissions="rw")
        for name in names
    ]
