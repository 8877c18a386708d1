"""Times, for people and for programs."""

import time
from itertools import pairwise
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def span(seconds: float) -> str:
    """The two largest units: 7s, 2m05s, 3h00m, 12d04h. Less than nothing is nothing."""
    left = max(0, round(seconds))
    for (unit, size), (lower, lower_size) in pairwise(_UNITS):
        if left >= size:
            return f"{left // size}{unit}{left % size // lower_size:02}{lower}"
    return f"{left}s"


def nanoseconds(epoch: int) -> str:
    """RFC 3339 in UTC, without zeros at its end: 2026-01-02T03:04:05.6789Z."""
    seconds, rest = divmod(epoch, 10**9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".") + "Z"


def moment(epoch: float | None) -> str | None:
    """RFC 3339 in UTC, whole seconds: 2026-01-02T03:04:05Z."""
    return None if epoch is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
