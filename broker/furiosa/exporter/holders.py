"""Which containers have which cores, of what the kubelet tells. PURE."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import DeviceFile
from furiosa.kubelet import PodsDevices
from furiosa.sysfs import Card

# of resources, and of drivers of dynamic resource allocation: other vendors' cards may be npu0 too
_OURS: Final = re.compile(r"(?:[a-z0-9.-]+\.)?furiosa\.ai(?:/.*)?")


@dataclass(frozen=True, slots=True, order=True)
class Container:
    namespace: str
    pod: str
    name: str


@dataclass(frozen=True, slots=True)
class Holding:
    """Cores of one card, ascending."""

    container: Container
    cores: tuple[int, ...]


def holdings(devices: PodsDevices, cards: Iterable[Card]) -> Mapping[int, tuple[Holding, ...]]:
    """By index of the card. Two cores of a card that a container got one by one are one holding."""
    known = {card.index: card for card in cards}
    found: dict[tuple[int, Container], set[int]] = {}
    for container, file in _given(devices):
        if file.npu in known:
            cores = (core for core in known[file.npu].cores if core in file.cores)
            found.setdefault((file.npu, container), set()).update(cores)
    by_card: dict[int, list[Holding]] = {}
    for (npu, container), cores_held in sorted(found.items()):
        if cores_held:
            by_card.setdefault(npu, []).append(Holding(container, tuple(sorted(cores_held))))
    return {npu: tuple(held) for npu, held in by_card.items()}


def _given(devices: PodsDevices) -> Iterator[tuple[Container, DeviceFile]]:
    given = [
        (Container(each.namespace, each.pod, each.container), each.resource, id)
        for each in devices.held
        for id in each.ids
    ]
    given += [
        (Container(each.namespace, each.pod, each.container), each.driver, each.device)
        for each in devices.claimed
    ]
    for container, owner, id in given:
        if _OURS.fullmatch(owner):
            try:
                yield container, DeviceFile.parse(id)
            except BadDeviceFile:
                continue
