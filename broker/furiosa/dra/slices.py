"""What the scheduler chooses from: ResourceSlices of a node. PURE.

Each card is a counter set with a counter of 1 for each core. A device consumes the counters of its cores, so
devices with a core in common exclude each other exactly. Counter sets and devices stand in slices of their
own, which together are one generation of the node's pool.
Source: Kubernetes API reference, resource.k8s.io/v1, ResourceSlice; KEP-4815, partitionable devices.
"""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationView
from furiosa.common.views import Availability, CoreState, DeviceView, Health

DRIVER: Final = "npu.furiosa.ai"
GROUP: Final = "resource.k8s.io"
MOST_COUNTER_SETS: Final = 8  # in a slice
MOST_DEVICES: Final = 64  # in a slice of devices that consume counters
CORE_BYTES: Final = 8 * 1024**3  # a card has 16 GiB
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")

Slice = dict[str, Any]  # the `spec` of one


class Devices(enum.Enum):
    """What of a card is offered."""

    PARTITIONS = "partitions"  # each core, and both fused; needs counters
    WHOLE = "whole"  # both fused
    SINGLE = "single"  # each core


def offered(
    cards: Iterable[DeviceView], reservations: Iterable[ReservationView], devices: Devices
) -> tuple[tuple[DeviceView, DeviceFile], ...]:
    """Those that a claim can have, or has; in the order of cards.

    What is dead is left out. So is what has a core that somebody uses without a claim: the scheduler would
    not know of it.
    """
    ours = [f for r in reservations if r.manager == DRIVER for f in r.device_files]
    found = []
    for card in sorted(cards, key=lambda card: card.index):
        if card.health is not Health.ALIVE or card.availability is Availability.UNAVAILABLE:
            continue
        for file in _files(card, devices):
            is_claimed = file in ours
            if not is_claimed and card.availability is Availability.CORDONED:
                continue
            others = [
                core
                for core in card.cores
                if core.core in file.cores
                and core.state is not CoreState.AVAILABLE
                and not any(core.core in f.cores for f in ours if f.npu == card.index)
            ]
            if is_claimed or not others:
                found.append((card, file))
    return tuple(found)


def slices(
    node: str, found: Sequence[tuple[DeviceView, DeviceFile]], devices: Devices, version: str
) -> tuple[Slice, ...]:
    """Without the pool's generation and count, for `version` of the group, e.g. "v1"."""
    counted = devices is Devices.PARTITIONS
    cards = list({card.index: card for card, _ in found}.values())
    sets = [_counter_set(card) for card in cards] if counted else []
    entries = [_device(card, file, counted, version) for card, file in found]
    specs: list[Slice] = [
        {"sharedCounters": sets[start : start + MOST_COUNTER_SETS]}
        for start in range(0, len(sets), MOST_COUNTER_SETS)
    ]
    specs += [
        {"devices": entries[start : start + MOST_DEVICES]}
        for start in range(0, max(1, len(entries)), MOST_DEVICES)
    ]
    return tuple(
        {"driver": DRIVER, "nodeName": node, "pool": {"name": node}, **spec} for spec in specs
    )


def complete(specs: Sequence[Slice], generation: int) -> tuple[Slice, ...]:
    """As the API server takes them."""
    return tuple(
        {
            **spec,
            "pool": {
                **spec["pool"],
                "generation": generation,
                "resourceSliceCount": len(specs),
            },
        }
        for spec in specs
    )


def without_generation(spec: Mapping[str, Any]) -> Slice:
    """What `slices` would say, of one that the API server has."""
    pool = {"name": spec.get("pool", {}).get("name", "")}
    kept = ("driver", "nodeName", "sharedCounters", "devices")
    return {"pool": pool, **{key: spec[key] for key in kept if key in spec}}


def _files(card: DeviceView, devices: Devices) -> tuple[DeviceFile, ...]:
    parts = [file for file in card.device_files if not file.cores.is_all]
    match devices:
        case Devices.PARTITIONS:
            return tuple(parts)
        case Devices.SINGLE:
            return tuple(file for file in parts if file.cores.width == 1)
        case Devices.WHOLE:
            return (max(parts, key=lambda file: file.cores.width),) if parts else ()


def _counters(cores: Iterable[int]) -> Mapping[str, Any]:
    return {f"pe{core}": {"value": "1"} for core in cores}


def _counter_set(card: DeviceView) -> Mapping[str, Any]:
    return {"name": card.name, "counters": _counters(core.core for core in card.cores)}


def _device(card: DeviceView, file: DeviceFile, counted: bool, version: str) -> Mapping[str, Any]:
    cores = [core.core for core in card.cores if core.core in file.cores]
    body: dict[str, Any] = {
        "attributes": _attributes(card, file),
        "capacity": {
            "cores": {"value": str(len(cores))},
            "memory": {"value": str(CORE_BYTES * len(cores))},
        },
    }
    if counted:
        body["consumesCounters"] = [{"counterSet": card.name, "counters": _counters(cores)}]
    # the first version of the API had these in a part of their own
    return {"name": str(file), **({"basic": body} if version == "v1beta1" else body)}


def _attributes(card: DeviceView, file: DeviceFile) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "architecture": {"string": card.architecture.value},
        "card": {"string": card.name},
        "index": {"int": card.index},
        "kind": {"string": "core" if file.cores.width == 1 else "fused"},
        "origin": {"string": card.origin.value},
        "uuid": {"string": card.uuid},
        "resource.kubernetes.io/pciBusID": {"string": card.pci_bdf},
    }
    if card.numa_node >= 0:
        found["numaNode"] = {"int": card.numa_node}
    for name, text in (
        ("driverVersion", card.driver_version),
        ("firmwareVersion", card.firmware_version),
    ):
        if match := _VERSION.match(text):
            found[name] = {"version": match[0]}
    return found
