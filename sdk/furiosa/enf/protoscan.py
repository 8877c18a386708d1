"""Protobuf bytes of a stranger: looked at before the parser sees them.

A parser allocates an object for each submessage, tens of bytes for two bytes of input. Counting the
fields first bounds that amplification.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MESSAGE: Final = 11  # FieldDescriptor.TYPE_MESSAGE
_PACKABLE: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18})  # all scalar types
_PACKED_BYTES: Final = (
    1 << 16
)  # a packed varint grows eightfold; whatever is longer must be raw bytes
_DEPTH: Final = 16


class MessageType(Protocol):
    """What is used of google.protobuf.descriptor.Descriptor."""

    @property
    def fields_by_number(self) -> Mapping[int, Any]: ...


class Message(Protocol):
    """What is used of google.protobuf.message.Message."""

    def ParseFromString(self, serialized: bytes, /) -> int: ...
    def ByteSize(self) -> int: ...
    def DiscardUnknownFields(self) -> None: ...


class Malformed(ValueError):
    """The bytes are no such message, or one that would make the parser allocate too much."""


def parse(data: bytes, message: Message, kind: MessageType, maximum: int) -> None:
    """Fill an empty `message` of this `kind` from at most `maximum` fields, all of them known.

    Raises: Malformed.
    """
    check_fields(data, kind, maximum)
    try:
        message.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, without importing protobuf for it
        raise Malformed(str(error)) from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise Malformed("it has fields that are not known here")


def check_fields(data: bytes, message: MessageType, maximum: int) -> None:
    """Refuse `data` as a `message` of more than `maximum` fields, counted through all submessages.

    Unknown fields are the caller's business: they cost no more than their own bytes.
    Raises: Malformed.
    """
    count = 0
    stack = [(0, len(data), message, 0)]
    while stack:
        at, end, kind, depth = stack.pop()
        if depth > _DEPTH:
            raise Malformed(f"submessages are nested deeper than {_DEPTH}")
        known = kind.fields_by_number
        while at < end:
            count += 1
            if count > maximum:
                raise Malformed(f"there are more than {maximum} fields")
            key, at = _varint(data, at, end)
            wire = key & 7
            if wire == _VARINT:
                _, at = _varint(data, at, end)
                continue
            if wire == _LENGTH:
                size, at = _varint(data, at, end)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise Malformed(f"byte {at}: wire type {wire} is not used here")
            if size > end - at:
                raise Malformed(f"byte {at}: a field of {size} bytes where {end - at} are left")
            field = known.get(key >> 3)
            if wire == _LENGTH and field is not None:
                if field.type == _MESSAGE:
                    stack.append((at, at + size, field.message_type, depth + 1))
                elif field.type in _PACKABLE and size > _PACKED_BYTES:
                    raise Malformed(f"byte {at}: packed numbers of {size} bytes")
            at += size


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Malformed(f"byte {at}: a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"byte {at}: a number is longer than ten bytes")
