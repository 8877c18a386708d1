"""What there is to lease: the cards, what of them is shut or held from outside, and what could be had of
them at best.
"""

from collections.abc import Iterable, Mapping

from furiosa.broker.lease import placement
from furiosa.broker.lease.cards import Card, Cards, Slot
from furiosa.broker.lease.placement import Ordered, Policy, Reserved
from furiosa.broker.lease.states import Forbidden, Lease, Unknown
from furiosa.common.names import DeviceFile


class Estate:
    """`cards` as they are now; they are others after `renew`. `foreign` are the files that are open without
    a lease.
    """

    def __init__(self, cards: Iterable[Card]) -> None:
        self._closed: dict[int, dict[str, str]] = {}  # reasons by role; also of cards not there
        self.foreign: frozenset[DeviceFile] = frozenset()
        self.cards = self._pristine = Cards()
        self.renew(cards, ())

    def renew(self, cards: Iterable[Card], leases: Iterable[Lease]) -> tuple[Lease, ...]:
        """These are the cards from now on. Of `leases`, those on cards that are not as they were."""
        before = self.cards.by_npu
        self.cards = Cards(cards, before)
        same = {npu for npu, slot in self.cards.by_npu.items() if before.get(npu) is slot}
        # nothing in use
        self._pristine = Cards((slot.card for slot in self.cards.slots), self._pristine.by_npu)
        for slot in self.cards.slots:
            if slot.card.npu not in same:
                for role, reason in self.closed(slot.card.npu).items():
                    self.cards.close(slot, role, reason)
        moved = []
        for lease in leases:
            if others := [file for file in lease.files if file.npu not in same]:
                moved.append(lease)
                for file in others:
                    self.cards.take(file, lease.id)
        self.mark(self.foreign)
        return tuple(moved)

    def has(self, file: DeviceFile) -> bool:
        slot = self.cards.by_npu.get(file.npu)
        return slot is not None and file in slot.named

    def take(self, lease: Lease) -> None:
        for file in lease.files:
            self.cards.take(file, lease.id)

    def give_back(self, lease: Lease) -> None:
        for file in lease.files:
            self.cards.give_back(file)

    def closed(self, npu: int) -> dict[str, str]:
        """Why nothing of the card is granted, by role; empty when it is open. A copy."""
        return dict(self._closed.get(npu, {}))

    def close(self, npu: int, role: str, reason: str | None) -> bool:
        """None as the reason opens it. Whether there is such a card; it may come later."""
        roles = self._closed.setdefault(npu, {})
        roles.pop(role, None)
        if reason is not None:
            roles[role] = reason
        slot = self.cards.by_npu.get(npu)
        if slot is not None:
            self.cards.close(slot, role, reason)
        return slot is not None

    def mark(self, foreign: frozenset[DeviceFile]) -> None:
        """These files are open without a lease, and no others."""
        self.foreign = foreign
        cores: dict[int, int] = {}
        for file in foreign:
            slot = self.cards.by_npu.get(file.npu)
            if slot is not None and file in slot.named:
                cores[file.npu] = cores.get(file.npu, 0) | slot.named[file]
        for slot in self.cards.slots:
            if slot.foreign != cores.get(slot.card.npu, 0):
                self.cards.set_foreign(slot, cores.get(slot.card.npu, 0))

    def can_take(self, files: Iterable[DeviceFile]) -> bool:
        """Whether they are there and nobody's; a core of a closed card, too."""
        mine: dict[int, int] = {}  # cores so far, by card
        for file in files:
            slot = self.cards.by_npu.get(file.npu)
            if slot is None or file not in slot.named:
                return False
            if slot.named[file] & (slot.taken | mine.get(file.npu, 0)):
                return False
            mine[file.npu] = mine.get(file.npu, 0) | slot.named[file]
        return True

    def on(self, npu: int) -> tuple[str, ...]:
        """The leases on the card."""
        slot = self.cards.by_npu.get(npu)
        return () if slot is None else tuple(dict.fromkeys(slot.owners.values()))

    def count(self, files: Iterable[DeviceFile]) -> int:
        """How many cores they are; those of cards that have gone count nothing."""
        return sum(
            self.cards.by_npu[file.npu].card.bits(file).bit_count()
            for file in files
            if file.npu in self.cards.by_npu
        )

    def reach(self, spec: Ordered, cards: frozenset[int] | None) -> int:
        """The places of the cards that can serve it, of the `cards` it may use; None: all."""
        allowed = self.cards.places(cards)
        if not spec.counted:
            allowed &= self.cards.places(frozenset(file.npu for file in spec.named))
        return allowed

    def prospect(self, spec: Ordered, allowed: int) -> int | Unknown | Forbidden:
        """How many cores it gets if nothing is in its way; else why no waiting would help."""
        cards, nothing = self._pristine, Reserved(self._pristine)
        files = placement.place(cards, spec, allowed, nothing, Policy.PACK)
        if files is not None:
            return self.count(files)
        files = placement.place(cards, spec, cards.everywhere, nothing, Policy.PACK)
        return Unknown() if files is None else Forbidden()

    def check(self, leases: Mapping[str, Lease]) -> None:
        """Raises: AssertionError when an invariant is broken."""
        taken: dict[int, int] = {}
        owners: dict[int, dict[DeviceFile, str]] = {}
        for lease in leases.values():
            for file in lease.files:
                slot = self.cards.by_npu.get(file.npu)
                bits = 0 if slot is None else slot.card.bits(file)
                assert not taken.get(file.npu, 0) & bits, f"{lease.id}: {file} has two owners"
                taken[file.npu] = taken.get(file.npu, 0) | bits
                owners.setdefault(file.npu, {})[file] = lease.id
        for slot in self.cards.slots:
            assert slot.owners == owners.get(slot.card.npu, {}), f"{slot}"
            assert slot.taken == taken.get(slot.card.npu, 0), f"{slot}: {taken}"
            assert not slot.free & (slot.taken | slot.foreign), f"{slot}"
            self._check_index(slot)
        free = sum(slot.free.bit_count() for slot in self.cards.slots)
        assert free == self.cards.free_cores
        assert sum(map(int.bit_count, self.cards.with_free)) == len(self.cards.slots)

    def _check_index(self, slot: Slot) -> None:
        assert self.cards.with_free[slot.free.bit_count()] >> slot.place & 1, f"{slot}"
