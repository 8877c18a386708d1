"""What a waiter is told: its place in the queue, and what it waits for."""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from furiosa.broker.lease.cards import Cards, Slot
from furiosa.broker.lease.states import Busy, Obstacle, Shut
from furiosa.broker.lease.waiting import Waiter
from furiosa.common.names import ALL, DeviceFile


class QueuePlace(Struct, frozen=True):
    """`position` counts those ahead who may want the same cards: a counted request may want any, and
    files by name want their cards.
    """

    waiter: Waiter
    position: int
    obstacle: Obstacle


def places(
    in_turn: Iterable[Waiter], obstacle: Callable[[Waiter], Obstacle]
) -> Iterator[QueuePlace]:
    """The places of the waiters, who are given in their turn."""
    named_ahead: dict[int, int] = {}  # by card
    counted_ahead = 0
    for ahead, waiter in enumerate(in_turn):
        cards = {file.npu for file in waiter.spec.named}
        if waiter.spec.counted:
            position = ahead + 1
            counted_ahead += 1
        else:
            position = 1 + counted_ahead + max(named_ahead.get(npu, 0) for npu in cards)
            for npu in cards:
                named_ahead[npu] = named_ahead.get(npu, 0) + 1
        yield QueuePlace(waiter, position, obstacle(waiter))


def in_the_way(waiter: Waiter, cards: Cards, foreign: Iterable[DeviceFile]) -> Obstacle:
    """What keeps it from its devices: a closed card, a lease, a stranger, or only those ahead."""
    for wanted in waiter.spec.named:
        slot = cards.by_npu[wanted.npu]
        if slot.closed:
            return _shut(slot)
        if holder := _holder(slot, foreign, wanted):
            return holder
    if waiter.spec.counted:
        for slot in cards.at(waiter.allowed):
            whole = DeviceFile(slot.card.npu, ALL)
            if not slot.closed and (holder := _holder(slot, foreign, whole)):
                return holder
        if all(slot.closed for slot in cards.at(waiter.allowed)):
            return _shut(next(cards.at(waiter.allowed)))
    return Busy(None, None)


def _shut(slot: Slot) -> Shut:
    return Shut(slot.card.npu, "; ".join(slot.closed.values()))


def _holder(slot: Slot, foreign: Iterable[DeviceFile], wanted: DeviceFile) -> Busy | None:
    for file, lease in slot.owners.items():
        if file.overlaps(wanted):
            return Busy(lease, file)
    if slot.foreign & slot.card.bits(wanted):
        return Busy(None, min((f for f in foreign if f.overlaps(wanted)), key=lambda f: f.sort_key))
    return None
