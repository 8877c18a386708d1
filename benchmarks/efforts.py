"""How long to measure: the same figures, from more or fewer samples."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """`slots` stretches of `slot_seconds` for each side of a figure; `rounds` single calls of each side;
    `small_owners` and `big_owners` are killed; `share` of what only lasts.
    """

    slots: int
    slot_seconds: float
    rounds: int
    small_owners: int
    big_owners: int
    handovers: int
    share: float


FULL = Effort(10, 1.0, 2000, 100, 20, 2000, 1.0)
QUICK = Effort(3, 0.4, 200, 5, 1, 200, 0.2)
