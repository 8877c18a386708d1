"""Specifications as the Container Device Interface wants them. PURE.

Their version is the lowest that has what they use, so that old runtimes take them too: podman 4.3 knows
0.3 to 0.5. Paths on the host that differ from those in the container would need 0.5 (only of device nodes,
and ours are the same), annotations 0.6, additional groups 0.7.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from furiosa.cdi.access import Access, Mount, access, device_nodes
from furiosa.common.names import ALL, DeviceFile
from furiosa.common.reservations import DEVICES, GrantsView
from furiosa.common.views import DeviceView

VERSION: Final = "0.3.0"
KIND: Final = "furiosa.ai/npu"
CLAIM_KIND: Final = "npu.furiosa.ai/claim"
EVERYTHING: Final = "all"  # the device that is all cards

Spec = Mapping[str, Any]


def qualified(device: str, kind: str = KIND) -> str:
    """As people write it: furiosa.ai/npu=npu0pe0."""
    return f"{kind}={device}"


def node_spec(cards: Sequence[DeviceView], where: GrantsView) -> Spec:
    """Each device file of the node as a device, by its name, and `all`.

    Nothing is reserved by this: who has a device may lease it, and may have to wait for it.
    """
    ordered = sorted(cards, key=lambda card: card.index)
    devices = [
        _device(str(file), [file], ordered, where) for card in ordered for file in card.device_files
    ]
    whole = [_widest(card) for card in ordered]
    if whole:
        devices.append(_device(EVERYTHING, whole, ordered, where))
    return _spec(KIND, access([DeviceFile(0, ALL)], (), where), devices)


def claim_spec(
    claim: str,
    files: Sequence[DeviceFile],
    grant: str,
    cards: Iterable[DeviceView],
    where: GrantsView,
) -> Spec:
    """Of a claim that was given `files`, with one grant: a device for each, since a container may refer to
    only some of them.
    """
    known = tuple(cards)
    common = access(files, [grant], where)
    mounts = (*common.common_mounts, *common.own_mounts)
    devices = []
    for file in files:
        given = access([file], (), where, str(file))
        devices.append(_edited(claim_device(claim, file), given, device_nodes(known, [file])))
    return _spec(CLAIM_KIND, replace(common, common_mounts=mounts), devices)


def claim_device(claim: str, file: DeviceFile) -> str:
    """What a device of a claim is called."""
    return f"{claim}-{file}"


def text(spec: Spec) -> str:
    """As JSON; equal specifications are equal texts."""
    return json.dumps(spec, indent=2) + "\n"


def _widest(card: DeviceView) -> DeviceFile:
    """A program is compiled for one core or for a fused pair; nobody compiles for the whole card."""
    parts = [file for file in card.device_files if not file.cores.is_all]
    return max(parts, key=lambda file: file.cores.width, default=card.device_files[0])


def _device(
    name: str, files: Sequence[DeviceFile], cards: Iterable[DeviceView], where: GrantsView
) -> Spec:
    grants = [f"{where.folder}/{DEVICES}/{file}" for file in files]
    given = access(files, grants, where, name)
    return _edited(name, given, device_nodes(cards, files))


def _edited(name: str, given: Access, nodes: Iterable[str]) -> Spec:
    edits: dict[str, Any] = {"env": _env(given.own_env)}
    if given.own_mounts:
        edits["mounts"] = _mounts(given.own_mounts)
    if paths := list(nodes):
        edits["deviceNodes"] = [{"path": path, "permissions": "rw"} for path in paths]
    return {"name": name, "containerEdits": edits}


def _spec(kind: str, common: Access, devices: Sequence[Spec]) -> Spec:
    return {
        "cdiVersion": VERSION,
        "kind": kind,
        "devices": list(devices),
        # once for a container, however many of the devices it gets
        "containerEdits": {
            "env": _env(common.common_env),
            "mounts": _mounts(common.common_mounts),
        },
    }


def _env(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _mounts(mounts: Iterable[Mount]) -> list[Spec]:
    return [
        {
            "hostPath": mount.host_path,
            "containerPath": mount.container_path,
            "options": ["ro", "nosuid", "nodev", "bind"],
        }
        for mount in mounts
    ]
