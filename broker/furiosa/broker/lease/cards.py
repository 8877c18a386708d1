"""Which cores of which card are taken: bits, and an index of cards by how many cores they have left.

A card's cores are the bits of an int, and so are the cards of the node, by their place in index order:
finding the fullest card that still has room takes a few operations on ints, for 8 cards or for 500.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from furiosa.common.names import DeviceFile


class Card(Struct, frozen=True):
    """What can be leased of card `npu`, which has cores 0..`cores`-1."""

    npu: int
    cores: int
    files: tuple[DeviceFile, ...]

    @property
    def all_cores(self) -> int:
        return (1 << self.cores) - 1

    def bits(self, file: DeviceFile) -> int:
        """The cores of one of the card's files."""
        if file.cores.is_all:
            return self.all_cores
        return (1 << file.cores.last + 1) - (1 << file.cores.first)


@dataclass(slots=True)
class Slot:
    """A card in its place among the others. `owners` are the leases on it, by file, and `taken` their
    cores; `foreign` are cores held behind the broker's back; `closed` gives the reasons why nothing of
    it is granted, by role. What is left is `free`.
    """

    card: Card
    place: int
    owners: dict[DeviceFile, str] = field(default_factory=dict)
    taken: int = 0
    foreign: int = 0
    closed: dict[str, str] = field(default_factory=dict)
    free: int = 0
    singles: tuple[tuple[DeviceFile, int], ...] = ()  # one core each, ascending
    fused: tuple[tuple[DeviceFile, int], ...] = ()  # narrower first
    named: Mapping[DeviceFile, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = sorted(self.card.files, key=lambda file: file.sort_key)
        self.named = {file: self.card.bits(file) for file in ordered}
        parts = [(file, bits) for file, bits in self.named.items() if not file.cores.is_all]
        self.singles = tuple(part for part in parts if part[0].cores.width == 1)
        self.fused = tuple(part for part in parts if part[0].cores.width > 1)

    def parts(self, single: bool) -> tuple[tuple[DeviceFile, int], ...]:
        """The files that a counted request for single cores, or for fused ones, may get."""
        return self.singles if single else self.fused


class Cards:
    """The slots of all cards, found by number, and by how many of their cores are free."""

    def __init__(
        self, cards: Iterable[Card] = (), before: Mapping[int, Slot] | None = None
    ) -> None:
        """`before`: slots by number; those of cards that are the same go on here as they are."""
        known = before or {}
        ordered = sorted(cards, key=lambda card: card.npu)
        self.slots = [_slot(known.get(card.npu), card, place) for place, card in enumerate(ordered)]
        self.by_npu = {slot.card.npu: slot for slot in self.slots}
        self.most_cores = max((slot.card.cores for slot in self.slots), default=0)
        self.everywhere = (1 << len(self.slots)) - 1
        # by number of free cores: the places of such cards, as bits
        self.with_free = [self.everywhere] + [0] * self.most_cores
        self.free_cores = 0
        for slot in self.slots:
            self._recount(slot)

    def take(self, file: DeviceFile, lease: str) -> None:
        """No effect for a card that has gone."""
        slot = self.by_npu.get(file.npu)
        if slot is not None:
            slot.owners[file] = lease
            slot.taken |= slot.card.bits(file)
            self._recount(slot)

    def give_back(self, file: DeviceFile) -> None:
        """No effect for a card that has gone."""
        slot = self.by_npu.get(file.npu)
        if slot is not None:
            del slot.owners[file]
            slot.taken &= ~slot.card.bits(file)
            self._recount(slot)

    def set_foreign(self, slot: Slot, cores: int) -> None:
        slot.foreign = cores
        self._recount(slot)

    def close(self, slot: Slot, role: str, reason: str | None) -> None:
        if reason is None:
            slot.closed.pop(role, None)
        else:
            slot.closed[role] = reason
        self._recount(slot)

    def places(self, npus: frozenset[int] | None) -> int:
        """The places of the given cards, as bits; None: of all."""
        if npus is None:
            return self.everywhere
        return sum(1 << self.by_npu[npu].place for npu in npus if npu in self.by_npu)

    def at(self, places: int) -> Iterator[Slot]:
        """The slots at the given places, ascending."""
        while places:
            lowest = places & -places
            yield self.slots[lowest.bit_length() - 1]
            places ^= lowest

    def _recount(self, slot: Slot) -> None:
        before, place = slot.free.bit_count(), 1 << slot.place
        slot.free = 0 if slot.closed else slot.card.all_cores & ~(slot.taken | slot.foreign)
        after = slot.free.bit_count()
        self.with_free[before] ^= place
        self.with_free[after] ^= place
        self.free_cores += after - before


def _slot(known: Slot | None, card: Card, place: int) -> Slot:
    """With nothing counted as free."""
    if known is None or known.card != card:
        return Slot(card, place)
    known.place, known.free = place, 0
    return known
