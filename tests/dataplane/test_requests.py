"""The decoder of requests against protobuf's own: the same messages, the same refusals."""

import random

import pytest
from google.protobuf.message import DecodeError

from furiosa.dataplane.requests import MAX_FIELDS, decode
from furiosa.proto.broker.v1 import inference_pb2 as pb


def fields(data: bytes) -> tuple[str, int, list[bytes], int]:
    request = decode(data)
    inputs = [bytes(part) for part in request.inputs]
    return request.lease_id, request.program_id, inputs, request.id


def as_protobuf_says(data: bytes) -> tuple[str, int, list[bytes], int]:
    message = pb.RunRequest.FromString(data)
    return message.lease_id, message.program_id, list(message.inputs), message.id


REQUESTS = [
    pb.RunRequest(),
    pb.RunRequest(lease_id="a lease", program_id=7, inputs=[b"x" * 600_000], id=1 << 60),
    pb.RunRequest(inputs=[b"", b"1", b"", b"22" * 100]),
    pb.RunRequest(lease_id="\u03b1", id=(1 << 64) - 1, program_id=(1 << 32) - 1),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_is_what_protobuf_makes_of_it(request_: pb.RunRequest) -> None:
    data = request_.SerializeToString()
    assert fields(data) == as_protobuf_says(data)


def test_tensors_are_not_copied() -> None:
    data = pb.RunRequest(inputs=[b"x" * 1000]).SerializeToString()
    (part,) = decode(data).inputs
    assert part.obj is data


def test_fields_in_any_order_repeated_and_unknown_are_as_in_protobuf() -> None:
    data = b"".join(
        (
            pb.RunRequest(inputs=[b"a"], id=1).SerializeToString(),
            pb.RunRequest(lease_id="first").SerializeToString(),
            b"\xfa\x01\x03xyz",  # field 31, bytes
            b"\x35\x01\x02\x03\x04",  # field 6, 32 bits
            b"\x39\x01\x02\x03\x04\x05\x06\x07\x08",  # field 7, 64 bits
            pb.RunRequest(lease_id="second", inputs=[b"b"]).SerializeToString(),
        )
    )
    assert fields(data) == as_protobuf_says(data) == ("second", 0, [b"a", b"b"], 1)


def test_mutated_messages_are_refused_or_read_as_by_protobuf() -> None:
    """What protobuf refuses is refused. (Groups, which no message of ours has, are refused always.)"""
    rng = random.Random(0)
    seed = pb.RunRequest(lease_id="lease", program_id=300, inputs=[b"abc", b"d" * 200], id=9)
    refused = read = 0
    for _ in range(20_000):
        data = bytearray(seed.SerializeToString())
        for _ in range(rng.randint(1, 3)):
            match rng.randint(0, 2):
                case 0:
                    data[rng.randrange(len(data))] = rng.randrange(256)
                case 1:
                    del data[rng.randrange(len(data)) :]
                    data += b"\x1a"
                case _:
                    data.insert(rng.randrange(len(data)), rng.randrange(256))
        try:
            found = fields(bytes(data))
        except (ValueError, DecodeError):
            refused += 1
            continue
        assert found == as_protobuf_says(bytes(data))
        read += 1
    assert min(refused, read) > 1000


def test_requests_of_very_many_fields_are_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_FIELDS} fields"):
        decode(b"\x1a\x00" * (MAX_FIELDS + 1))
