"""What a place for entries offers."""

from typing import Protocol


class StoreUnavailable(Exception):
    """The place cannot be used now; `str()` says which and why, without secrets."""


class Store(Protocol):
    """Keys are 64 hexadecimal digits. Every call is bounded in time. Raises: StoreUnavailable, OSError."""

    def read(self, key: str, head: int) -> tuple[bytes, bytes] | None:
        """The first `head` bytes and the rest, apart because the rest may be too large to be copied."""

    def write(self, key: str, data: bytes, lifetime: int) -> None:
        """Whole or not at all, in place of what was there. `lifetime` as in CacheSettings."""

    def remove(self, key: str) -> None:
        """No error when it is gone already."""
