"""What is offered to the kubelet: from the cards, the reservations and the settings. PURE.

A unit is one device to the kubelet. It is Healthy when the kubelet can give it to a pod, or has: so a core
that somebody has without the kubelet, and one that a unit of another resource covers, makes units Unhealthy
until it is free again. A unit that the kubelet has given to a pod stays as it was whatever else happens to
its cores, and is Unhealthy only when its card is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationView
from furiosa.common.views import Availability, CoreState, DeviceView, Health
from furiosa.deviceplugin.settings import (
    DUAL_RESOURCE,
    GENERIC_RESOURCE,
    SINGLE_RESOURCE,
    Naming,
    Policy,
    Settings,
)

BETWEEN_IDS: Final = ","  # in the label of a reservation: which units it is


@dataclass(frozen=True, slots=True)
class Unit:
    """`id` is the kubelet's name for it, `file` what it is on its own. `merged`: all units of its card
    together are this file instead.
    """

    id: str
    file: DeviceFile
    card: DeviceView
    merged: DeviceFile | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    unit: Unit
    healthy: bool
    reason: str = ""  # why it is not, for the log


def resources(settings: Settings) -> frozenset[str]:
    """The names that the policies give."""
    policies = {settings.policy, *(policy for _, policy in settings.cards)}
    return frozenset(name for policy in policies for name, _ in _kinds(policy, settings))


def possible_resources(settings: Settings) -> frozenset[str]:
    """Names that reservations of this plugin can have, with these settings or those before."""
    return frozenset({settings.resource_name, GENERIC_RESOURCE, SINGLE_RESOURCE, DUAL_RESOURCE})


def units(cards: Iterable[DeviceView], settings: Settings) -> Mapping[str, tuple[Unit, ...]]:
    """By resource, also those without any; in the order of cards."""
    found: dict[str, list[Unit]] = {name: [] for name in sorted(resources(settings))}
    for card in sorted(cards, key=lambda card: card.index):
        policy = settings.policy_of(card.index)
        for name, is_single in _kinds(policy, settings):
            found[name] += _units(card, is_single, merges=policy is Policy.PAIR)
    return {name: tuple(each) for name, each in found.items()}


def _kinds(policy: Policy, settings: Settings) -> tuple[tuple[str, bool], ...]:
    """Resources, and whether a unit is a single core."""
    names = {
        Naming.ORIGINAL: (settings.resource_name, settings.resource_name),
        Naming.GENERIC: (GENERIC_RESOURCE, GENERIC_RESOURCE),
        Naming.CORES: (DUAL_RESOURCE, SINGLE_RESOURCE),
    }
    whole, single = names[settings.naming]
    match policy:
        case Policy.WHOLE:
            return ((whole, False),)
        case Policy.SINGLE | Policy.PAIR:
            return ((single, True),)
        case Policy.DYNAMIC:
            return (whole, False), (single, True)


def _units(card: DeviceView, is_single: bool, *, merges: bool) -> list[Unit]:
    parts = [file for file in card.device_files if not file.cores.is_all]
    widest = max(parts, key=lambda file: file.cores.width, default=None)
    if widest is None:
        return []
    if not is_single:
        return [Unit(str(widest), widest, card)]
    merged = widest if merges else None
    return [Unit(str(f), f, card, merged) for f in parts if f.cores.width == 1]


def files_of(chosen: Sequence[Unit]) -> tuple[DeviceFile, ...]:
    """What to reserve for these units, by card; of a card whose units are all there, the fused file."""
    files: list[DeviceFile] = []
    by_card: dict[int, list[Unit]] = {}
    for unit in chosen:
        by_card.setdefault(unit.card.index, []).append(unit)
    for index in sorted(by_card):
        mine = sorted(by_card[index], key=lambda unit: unit.file.sort_key)
        merged = mine[0].merged
        if merged is not None and sum(unit.file.cores.width for unit in mine) == merged.cores.width:
            files.append(merged)
        else:
            files += [unit.file for unit in mine]
    return tuple(files)


def label_of(ids: Iterable[str]) -> str:
    return BETWEEN_IDS.join(sorted(ids))


def ids_of(reservation: ReservationView) -> frozenset[str]:
    """Which units of its resource a reservation is."""
    return frozenset(reservation.label.split(BETWEEN_IDS))


def offers(
    resource: str,
    units: Iterable[Unit],
    reservations: Sequence[ReservationView],
    lingering: frozenset[str],
    settings: Settings,
    node: str,
) -> tuple[Offer, ...]:
    """`lingering`: reservations, by id, whose pod the kubelet has forgotten while its processes live.

    A disabled unit is not offered, unless a pod has it.
    """
    mine = [r for r in reservations if r.manager == resource and r.id not in lingering]
    found = []
    for unit in units:
        is_given = any(unit.id in ids_of(r) for r in mine)
        if is_given or not any(each.covers(unit.file, node) for each in settings.disabled):
            reason = _trouble(unit, is_given, reservations)
            found.append(Offer(unit, not reason, reason))
    return tuple(found)


def _trouble(unit: Unit, is_given: bool, reservations: Sequence[ReservationView]) -> str:
    """Why a pod cannot have it; empty when it can. What is reserved shows in the cards a moment later."""
    card = unit.card
    if card.health is not Health.ALIVE:
        return f"{card.name} does not answer"
    if card.availability is Availability.UNAVAILABLE:
        return f"{card.name}: {card.reason}"
    if is_given:
        return ""
    if card.availability is Availability.CORDONED:
        return f"{card.name}: {card.reason}"
    for reservation in reservations:
        if any(file.overlaps(unit.file) for file in reservation.device_files):
            return f"reserved by {reservation.manager} as {reservation.label or reservation.name}"
    for core in card.cores:
        if core.core in unit.file.cores and core.state is not CoreState.AVAILABLE:
            return f"in use as {core.device_file}"
    return ""
