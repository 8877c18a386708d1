"""Which files a request gets: the rules of finding, then the policy among equals.

Finding: named items before counted ones, in written order; a candidate overlaps nothing chosen before.
Source: devices reference 5.3. Where several candidates would do, `PACK` fills cards that are in use, so
that whole cards stay whole; `SPREAD` takes the emptiest card, so that tenants share less.
"""

import enum
from collections.abc import Iterable

from msgspec import Struct

from furiosa.broker.lease.cards import Cards, Slot
from furiosa.common.names import DeviceFile
from furiosa.common.selector import Counted, DeviceSpec, Named


class Policy(enum.Enum):
    PACK = "pack"
    SPREAD = "spread"


class Reserved:
    """What is left of the cards' free cores: some are spoken for, by waiters ahead or items before.

    `levels` is the index `Cards.with_free` of what is left.
    """

    __slots__ = ("_bits", "_cards", "levels")

    def __init__(self, cards: Cards) -> None:
        self._cards = cards
        self._bits: dict[int, int] = {}  # cores spoken for, by place
        self.levels = list(cards.with_free)

    def copy(self) -> "Reserved":
        new = Reserved.__new__(Reserved)
        new._cards, new._bits, new.levels = self._cards, self._bits.copy(), self.levels.copy()
        return new

    @property
    def places(self) -> int:
        """Where anything is left."""
        return self._cards.everywhere & ~self.levels[0]

    def of(self, slot: Slot) -> int:
        return self._bits.get(slot.place, 0)

    def left(self, slot: Slot) -> int:
        return slot.free & ~self._bits.get(slot.place, 0)

    def add(self, slot: Slot, cores: int) -> None:
        self._lower(slot, cores)
        self._bits[slot.place] = self._bits.get(slot.place, 0) | cores

    def leave(self, files: Iterable[DeviceFile]) -> None:
        """They are about to be no longer free."""
        cores: dict[int, int] = {}  # by card
        for file in files:
            cores[file.npu] = cores.get(file.npu, 0) | self._cards.by_npu[file.npu].named[file]
        for npu, bits in cores.items():
            self._lower(self._cards.by_npu[npu], bits)

    def _lower(self, slot: Slot, cores: int) -> None:
        left = self.left(slot)
        before, after = left.bit_count(), (left & ~cores).bit_count()
        if before != after:
            self.levels[before] ^= 1 << slot.place
            self.levels[after] ^= 1 << slot.place


class Ordered(Struct, frozen=True):
    """A specification in the order in which its items are served."""

    named: tuple[DeviceFile, ...]
    counted: tuple[Counted, ...]

    @classmethod
    def of(cls, spec: DeviceSpec) -> "Ordered":
        return cls(
            tuple(item.file for item in spec.items if isinstance(item, Named)),
            tuple(item for item in spec.items if isinstance(item, Counted)),
        )


def place(
    cards: Cards, spec: Ordered, allowed: int, reserved: Reserved, policy: Policy
) -> tuple[DeviceFile, ...] | None:
    """Files that are free now, at the `allowed` places and not reserved; None when there are too few."""
    chosen = reserved.copy()
    files: list[DeviceFile] = []
    for file in spec.named:
        slot = cards.by_npu.get(file.npu)
        bits = None if slot is None else slot.named.get(file)
        if slot is None or bits is None or not allowed >> slot.place & 1:
            return None
        if bits & ~chosen.left(slot):
            return None
        chosen.add(slot, bits)
        files.append(file)
    for item in spec.counted:
        picked: list[DeviceFile] = []
        while len(picked) < item.count:
            found = _pick(cards, item.cores == 1, allowed, chosen, policy)
            if found is None:
                return None
            slot, file, bits = found
            chosen.add(slot, bits)
            picked.append(file)
        files += sorted(picked, key=lambda file: file.sort_key)
    return tuple(files)


def _pick(
    cards: Cards, single: bool, allowed: int, chosen: Reserved, policy: Policy
) -> tuple[Slot, DeviceFile, int] | None:
    levels = range(1 if single else 2, cards.most_cores + 1)
    for level in levels if policy is Policy.PACK else reversed(levels):
        for slot in cards.at(chosen.levels[level] & allowed):
            left = chosen.left(slot)
            for file, bits in slot.parts(single):
                if not bits & ~left:
                    return slot, file, bits
    return None


def hold(cards: Cards, spec: Ordered, allowed: int, reserved: Reserved) -> bool:
    """Reserve free cores for a request that cannot be served yet, so that later ones do not take them.

    Of several cards it holds those that are emptiest, for they will be ready first; what it holds can
    only grow from one time to the next, so it is served in the end. Whether a free core was held.
    """
    held = False
    for file in spec.named:
        slot = cards.by_npu.get(file.npu)
        if slot is None or slot.closed or file not in slot.named:
            continue
        bits = slot.named[file]
        held = held or bool(bits & slot.free & ~reserved.of(slot))
        reserved.add(slot, bits)
    for item in spec.counted:
        for _ in range(item.count):
            found = _emptiest(cards, item.cores == 1, allowed, reserved)
            if found is None:
                break
            slot, bits = found
            reserved.add(slot, bits)
            held = True
    return held


def _emptiest(
    cards: Cards, single: bool, allowed: int, reserved: Reserved
) -> tuple[Slot, int] | None:
    """The part with the most free cores that nobody has reserved any of; None when all are busy."""
    for level in range(cards.most_cores, 0, -1):
        most = 1 if single else level
        best: tuple[int, Slot, int] | None = None
        for slot in cards.at(reserved.levels[level] & allowed):
            free, taken = slot.free, reserved.of(slot)
            for _, bits in slot.parts(single):
                if bits & free and not bits & taken:
                    count = (bits & free).bit_count()
                    if best is None or count > best[0]:
                        best = (count, slot, bits)
            if best is not None and best[0] == most:
                break
        if best is not None:
            return best[1], best[2]
    return None
