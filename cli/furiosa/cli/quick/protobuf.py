"""As much of protobuf as an answer of the broker takes. Source: protobuf's encoding page."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Value = int | bytes  # of a varint, else of a string, of bytes or of a message


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in order; those of fixed size are left out.

    Raises: ValueError when it is not a message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        end = at + length
        if end > len(message):
            raise ValueError("a field is cut off")
        if kind == 2:
            yield key >> 3, message[at:end]
        at = end


def signed(number: int) -> int:
    """A sint32 of its varint."""
    return (number >> 1) ^ -(number & 1)


def text(number: int, value: bytes) -> bytes:
    """A field with a string, bytes or a message, of less than 128 bytes."""
    return bytes((number << 3 | 2, len(value))) + value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number and where the next thing begins."""
    value = shift = 0
    while shift < 64:
        if at >= len(message):
            raise ValueError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is too long")
