"""Requests as they come, with their tensors left where they are.

protobuf copies bytes when it parses them and again when they are asked for, and a client's tensors are
nearly all of a request. So they are cut out of the message, and protobuf gets the rest.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from furiosa.proto.broker.v1 import inference_pb2 as pb

MAX_FIELDS: Final = 4096  # of a request; a program has no more than 1,024 inputs
_INPUTS: Final = pb.RunRequest.DESCRIPTOR.fields_by_name["inputs"].number
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # Source: protobuf encoding, wire types
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}


class RunRequest(NamedTuple):
    """As the message of this name."""

    lease_id: str
    program_id: int
    inputs: Sequence[memoryview]
    id: int


def decode(data: bytes) -> RunRequest:
    """Raises: ValueError; protobuf's DecodeError."""
    view = memoryview(data)
    inputs: list[memoryview] = []
    rest: list[memoryview] = []
    at = fields = 0
    while at < len(data):
        fields += 1
        if fields > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields in a request")
        begin = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _BYTES:
            size, at = _varint(data, at)
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        else:
            at += _FIXED.get(wire, len(data) + 1)  # groups are no part of it
        if at > len(data):
            raise ValueError("a request that is cut off")
        if number == _INPUTS and wire == _BYTES:
            inputs.append(view[at - size : at])
        else:
            rest.append(view[begin:at])
    message = pb.RunRequest.FromString(b"".join(rest))
    return RunRequest(message.lease_id, message.program_id, inputs, message.id)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = shift = 0
    while shift < 64:
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number that does not end")
