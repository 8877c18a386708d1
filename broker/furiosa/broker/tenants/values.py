"""One value of the tenants file at a time: from what TOML says to what a policy holds."""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from furiosa.common.names import MAX_CARD

UNLIMITED: Final = "unlimited"
ALL: Final = "all"

_SIZE: Final = re.compile(r"(\d{1,12}) ?([KMGT])iB?", re.ASCII)
_UNITS: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MOST: Final = 2**63 - 1
_CARDS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)

T = TypeVar("T")
Reader = Callable[[object], T]


class Unfit(Exception):
    """The text completes "<key> is <value>, expected ..."."""


def whole(low: int, high: int | None = None) -> Reader[int]:
    upwards = "or more" if high is None else f"to {high}"
    most = _MOST if high is None else high

    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= most:
            raise Unfit(f"a whole number, {low} {upwards}")
        return value

    return read


def number(low: float, high: float) -> Reader[float]:
    def read(value: object) -> float:
        if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]  # just seen
            raise Unfit(f"a number, {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]  # as above

    return read


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit("true or false")
    return value


def text(fits: Callable[[str], object], expected: str) -> Reader[str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not fits(value):
            raise Unfit(expected)
        return value

    return read


def one_of(values: Sequence[str]) -> Reader[str]:
    return text(values.__contains__, " or ".join(f'"{value}"' for value in values))


def size(value: object) -> int:
    """Bytes, or text with a unit of 1024."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    amount = value if match is None else int(match[1]) * _UNITS[match[2]]
    if type(amount) is not int or not 0 <= amount <= _MOST:
        raise Unfit('bytes as a whole number, or text such as "512MiB"')
    return amount


def cards(value: object) -> frozenset[int] | None:
    """A list of card numbers, text such as "0-3,8", or "all" (None)."""
    if value == ALL:
        return None
    if isinstance(value, str):
        ranges = [_CARDS.fullmatch(part.strip()) for part in value.split(",")]
        pairs = [(int(m[1]), int(m[2] or m[1])) for m in ranges if m is not None]
        if len(pairs) < len(ranges) or any(not a <= b <= MAX_CARD for a, b in pairs):
            raise Unfit(_CARDS_EXPECTED)
        return frozenset(card for a, b in pairs for card in range(a, b + 1))
    if not isinstance(value, list) or any(type(card) is not int for card in value):
        raise Unfit(_CARDS_EXPECTED)
    if any(not 0 <= card <= MAX_CARD for card in value):
        raise Unfit(_CARDS_EXPECTED)
    return frozenset(value)


def unlimited(reader: Reader[T]) -> Reader[T | None]:
    """As `reader`; and "unlimited" is None."""

    def read(value: object) -> T | None:
        if value == UNLIMITED:
            return None
        try:
            return reader(value)
        except Unfit as exc:
            raise Unfit(f'{exc}, or "{UNLIMITED}"') from None

    return read


_CARDS_EXPECTED: Final = (
    f'card numbers such as [0, 1] or "0-3,8", none above {MAX_CARD}, or "{ALL}"'
)
