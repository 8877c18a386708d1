"""Protobuf bytes are counted before a parser sees them."""

import pytest

from furiosa.enf.protoscan import Malformed, check_fields
from furiosa.proto.enf.v1 import program_pb2 as pb

PROGRAM = pb.Program.DESCRIPTOR


def test_fields_are_counted_through_submessages() -> None:
    message = pb.Program(name="n", buffers=[pb.Buffer(name="b", shape=[1, 2, 3])])
    data = message.SerializeToString()  # name, buffer, its name, its shape (packed: one field)
    check_fields(data, PROGRAM, 4)
    with pytest.raises(Malformed, match="more than 3 fields"):
        check_fields(data, PROGRAM, 3)


def test_unpacked_numbers_count_one_by_one() -> None:
    data = b"\x42\x06" + b"\x18\x01" * 3
    assert list(pb.Program.FromString(data).buffers[0].shape) == [1, 1, 1]
    with pytest.raises(Malformed, match="more than 3 fields"):
        check_fields(data, PROGRAM, 3)
    check_fields(data, PROGRAM, 4)


def test_strings_and_unknown_fields_are_skipped_whole() -> None:
    check_fields(pb.Program(name="\x42" * 70_000).SerializeToString(), PROGRAM, 1)
    check_fields(b"\xa2\x06\x02\xff\xff", PROGRAM, 1)  # field 100, two bytes
    check_fields(b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4), PROGRAM, 2)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x28", "byte 1: a number is cut off"),
        (b"\x28\x80", "byte 2: a number is cut off"),
        (b"\x28" + b"\xff" * 10, "byte 11: a number is longer than ten bytes"),
        (b"\x22\x05ab", "byte 2: a field of 5 bytes where 2 are left"),
        (b"\x0d\x00", "byte 1: a field of 4 bytes where 1 are left"),
        (b"\x09" + bytes(7), "byte 1: a field of 8 bytes where 7 are left"),
        (b"\x42\x03\x18\x01\x18", "byte 5: a number is cut off"),
        (b"\x42\x02\x1a\x05" + b"\x28\x01" * 4, "byte 4: a field of 5 bytes where 0 are left"),
        (b"\x0b\x0c", "byte 1: wire type 3 is not used here"),
        (b"\x0e", "byte 1: wire type 6 is not used here"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(Malformed, match=text):
        check_fields(data, PROGRAM, 100)


def test_nesting_is_bounded() -> None:
    from google.protobuf.descriptor_pb2 import DescriptorProto  # a message that holds itself

    message = DescriptorProto(name="leaf")
    for _ in range(16):
        message = DescriptorProto(nested_type=[message])
    check_fields(message.SerializeToString(), DescriptorProto.DESCRIPTOR, 100)
    deeper = DescriptorProto(nested_type=[message]).SerializeToString()
    with pytest.raises(Malformed, match="nested deeper than 16"):
        check_fields(deeper, DescriptorProto.DESCRIPTOR, 100)
