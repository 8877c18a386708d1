"""Places for tensors in the arena. Both ends compute them with the same functions."""

from collections.abc import Sequence

from furiosa.queuepair.layout import ALIGNMENT


def aligned(size: int) -> int:
    """`size` rounded up to the alignment of tensors."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def tensor_offsets(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Offsets of tensors of these byte sizes one after the other, 64-byte aligned, and their total.

    The total is a multiple of 64 as well, so that blocks can follow one another.
    """
    offsets = []
    end = 0
    for size in sizes:
        offsets.append(end)
        end += aligned(size)
    return tuple(offsets), end


class Slots:
    """`count` equal slots from offset 0 of the arena; the one given back last is taken first (warm)."""

    def __init__(self, slot_bytes: int, count: int) -> None:
        if slot_bytes <= 0 or slot_bytes % ALIGNMENT:
            raise ValueError(f"slot of {slot_bytes} bytes: not a positive multiple of {ALIGNMENT}")
        self.slot_bytes = slot_bytes
        self.count = count
        self._free = [index * slot_bytes for index in reversed(range(count))]
        self._taken: set[int] = set()

    def take(self) -> int | None:
        """The offset of a free slot, None when all are taken."""
        if not self._free:
            return None
        offset = self._free.pop()
        self._taken.add(offset)
        return offset

    def give(self, offset: int) -> None:
        """Raises: ValueError for an offset that is not taken."""
        if offset not in self._taken:
            raise ValueError(f"no slot at {offset} is taken")
        self._taken.remove(offset)
        self._free.append(offset)
