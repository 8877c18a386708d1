"""Which of the units that are free a container gets best. PURE; advice, so it always has an answer.

First what is on cards that it has part of already, then whole cards that it fills, then what is left of
cards that others have part of; nearest first: the same NUMA node, then the nearest PCI address.
"""

from collections.abc import Iterable, Mapping, Sequence

from furiosa.deviceplugin.offers import Unit


def prefer(
    available: Iterable[str], must: Sequence[str], size: int, units: Mapping[str, Unit]
) -> list[str]:
    """`size` ids, with those that it must have first. One that is not in `units`, which are known to
    be free, comes last."""
    chosen = list(dict.fromkeys(must))[: max(size, 0)]
    left = sorted(set(available) - set(chosen), key=lambda id: _place(units.get(id)))
    while len(chosen) < size and left:
        best = min(left, key=lambda id: _rank(id, chosen, left, size - len(chosen), units))
        left.remove(best)
        chosen.append(best)
    return chosen


def _rank(
    id: str, chosen: Sequence[str], left: Sequence[str], missing: int, units: Mapping[str, Unit]
) -> tuple[object, ...]:
    unit = units.get(id)
    if unit is None:
        return (9,)
    mine = [units[other] for other in chosen if other in units]
    on_card = sum(1 for other in left if _card(units.get(other)) == unit.card.index)
    has_part = any(other.card.index == unit.card.index for other in mine)
    breaks_a_card = on_card > missing
    numa = unit.card.numa_node
    far = bool(mine) and all(other.card.numa_node != numa for other in mine)
    distance = min((_distance(unit, other) for other in mine), default=0)
    return (not has_part, breaks_a_card, far, -on_card, distance, *_place(unit))


def _distance(one: Unit, other: Unit) -> int:
    """How early their PCI addresses differ."""
    mine, theirs = one.card.pci_bdf, other.card.pci_bdf
    same = next(
        (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine)
    )
    return len(mine) - same


def _card(unit: Unit | None) -> int:
    return -1 if unit is None else unit.card.index


def _place(unit: Unit | None) -> tuple[int, tuple[int, ...]]:
    if unit is None:
        return 1 << 32, ()
    cores = unit.file.cores
    return unit.card.index, (cores.first, cores.last)
