"""What a container is given for a reservation, as the kubelet takes it. PURE."""

from collections.abc import Sequence

from furiosa.cdi import access, device_nodes
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.deviceplugin.offers import Unit
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb


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
    files = reservation.device_files
    given = access(files, [reservation.grant], grants, "" if is_only_resource else resource)
    cards = {unit.card.index: unit.card for unit in units}
    return pb.ContainerAllocateResponse(
        envs={**given.common_env, **given.own_env},
        mounts=[
            pb.Mount(container_path=mount.container_path, host_path=mount.host_path, read_only=True)
            for mount in (*given.common_mounts, *given.own_mounts)
        ],
        devices=[
            pb.DeviceSpec(container_path=path, host_path=path, permissions="rw")
            for path in device_nodes(cards.values(), files)
        ],
    )
