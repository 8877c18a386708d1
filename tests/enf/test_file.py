"""The file around a program: it round-trips, and no damaged byte gets past the reader."""

import hashlib
import os
import re
import struct
import tracemalloc
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from furiosa.common.errors import InvalidProgram, UnsupportedProgram
from furiosa.common.model_limits import ENF_MAGIC
from furiosa.common.tensor import DType, Quantization
from furiosa.enf import NONE, Opcode, Program, read, write
from furiosa.enf.layout import HEADER_BYTES, assemble, header_digest, split
from furiosa.enf.limits import DEFAULT_LIMITS, Limits
from furiosa.proto.enf.v1 import program_pb2 as pb
from support.programs import Draft, a_program
from support.random_programs import random_program

SEEDS = range(int(os.environ.get("FURIOSA_ENF_FUZZ", "40")))
Refusal = (InvalidProgram, UnsupportedProgram)


def sections(data: bytes) -> list[bytearray]:
    """Metadata, instructions, constants."""
    found = split(memoryview(data), DEFAULT_LIMITS)
    return [bytearray(s) for s in (found.metadata, found.instructions, found.constants)]


def refuse(data: bytes, rule: str, text: str) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)) as caught:
        read(data)
    assert caught.value.rule == rule


def with_header(data: bytes, at: int, value: bytes) -> bytes:
    """The file with header bytes replaced and the header's digest made right again."""
    changed = bytearray(data)
    changed[at : at + len(value)] = value
    changed[32:64] = header_digest(bytes(changed))
    return bytes(changed)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


def with_every_field() -> Program:
    program = a_program(batch=2, host=True)
    port = replace(program.inputs[0], name="Eingänge/π")
    return replace(program, inputs=(port,), provenance=("conv1+relu1", "", "deq"))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_program_survives_the_file(seed: int) -> None:
    program = random_program(np.random.default_rng(seed))
    found = read(write(program))
    for field in fields(Program):
        assert same(getattr(found, field.name), getattr(program, field.name)), field.name


def test_unicode_names_and_host_sections_survive_the_file() -> None:
    program = with_every_field()
    found = read(write(program))
    for field in fields(Program):
        assert same(getattr(found, field.name), getattr(program, field.name)), field.name


def test_the_quantisation_of_a_port_survives_the_file() -> None:
    rng = np.random.default_rng(3)
    program = next(
        p for p in iter(lambda: random_program(rng), None) if p.input_specs[0].dtype.value == "int8"
    )
    quantization = Quantization(float(np.float32(0.1)), -7)
    program = replace(
        program, inputs=(replace(program.inputs[0], quantization=quantization), *program.inputs[1:])
    )
    assert read(write(program)).input_specs[0].quantization == quantization


def test_equal_programs_give_equal_bytes() -> None:
    assert write(a_program(host=True)) == write(a_program(host=True))
    assert write(read(write(a_program()))) == write(a_program())


def test_constants_are_read_only_views_of_the_file() -> None:
    data = write(a_program())
    for constant in read(data).constants:
        assert not constant.flags.writeable
        assert not constant.flags.owndata


def test_a_file_may_be_read_from_any_buffer() -> None:
    data = write(a_program())
    assert read(memoryview(bytearray(b"x" + data))[1:]).name == "draft"


def test_the_writer_refuses_a_program_that_breaks_a_rule() -> None:
    with pytest.raises(InvalidProgram, match="batch is 0"):
        write(replace(a_program(), batch=0))


def test_every_bit_of_the_header_counts() -> None:
    data = write(a_program())
    for bit in range(HEADER_BYTES * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refusal):
            read(bytes(changed))


def test_every_byte_after_the_header_counts() -> None:
    data = write(a_program())
    rng = np.random.default_rng(0)
    for at in range(HEADER_BYTES, len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(InvalidProgram):
            read(bytes(changed))


def test_a_file_cut_anywhere_is_refused() -> None:
    data = write(a_program(host=True))
    for size in range(len(data)):
        with pytest.raises(InvalidProgram):
            read(data[:size])


def test_bytes_after_the_end_are_refused() -> None:
    data = write(a_program())
    refuse(data + b"\0", "file-size", f"says {len(data)} bytes, there are {len(data) + 1}")


@pytest.mark.parametrize(
    ("at", "value", "rule", "text"),
    [
        (0, b"ELF!", "magic", "the file starts with 454c4621"),
        (16, (5).to_bytes(8, "little"), "file-size", "the header says 5 bytes"),
        (24, (4).to_bytes(4, "little"), "section-table", "4 sections, expected 3"),
        (28, b"\1", "reserved", "the header's reserved field is 1"),
        (64, b"\2", "section-table", "section 0 has kind 2, expected 1 (metadata)"),
        (128, b"\1", "section-table", "section 1 has kind 1, expected 2 (instructions)"),
        (68, b"\1", "reserved", "a reserved field of section metadata"),
        (64 + 24, b"\1", "reserved", "a reserved field of section metadata"),
        (72, (320).to_bytes(8, "little"), "section-table", "section metadata starts at 320"),
        (136, (256).to_bytes(8, "little"), "section-table", "section instructions starts at 256"),
        (80, b"\xff" * 8, "section-table", "section metadata ends at 18446744073709551871"),
        (64 + 32, b"\0" * 4, "section-digest", "section metadata does not hash"),
    ],
)
def test_a_header_with_a_right_digest_must_still_be_right(
    at: int, value: bytes, rule: str, text: str
) -> None:
    refuse(with_header(write(a_program()), at, value), rule, text)


def test_a_last_section_that_ends_early_is_refused() -> None:
    data = write(a_program())
    size = len(sections(data)[2])
    shorter = with_header(data, 64 + 2 * 64 + 16, (size - 1).to_bytes(8, "little"))
    body = bytes(sections(data)[2][:-1])
    shorter = with_header(shorter, 64 + 2 * 64 + 32, hashlib.sha256(body).digest())
    refuse(shorter, "section-table", "1 bytes follow the last section")


def test_padding_between_sections_must_be_zero() -> None:
    data = bytearray(write(a_program()))
    metadata = len(sections(bytes(data))[0])
    assert metadata % 64
    data[HEADER_BYTES + metadata] = 1
    refuse(bytes(data), "padding", "before section instructions")


def test_a_newer_version_or_flag_is_unsupported_rather_than_invalid() -> None:
    data = write(a_program())
    with pytest.raises(UnsupportedProgram) as caught:
        read(with_header(data, 8, b"\3"))
    assert (caught.value.what, caught.value.found) == ("format version", "3")
    with pytest.raises(UnsupportedProgram) as caught:
        read(with_header(data, 12, b"\x80"))
    assert (caught.value.what, caught.value.found) == ("set of flags", "0x80")


def test_a_file_over_the_limit_is_refused_before_anything_is_read() -> None:
    data = write(a_program())
    with pytest.raises(InvalidProgram, match=f"the file size is {len(data)}, the limit is 100"):
        read(data, Limits(file_bytes=100))


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = rng.bytes(int(rng.integers(0, 700)))
        for candidate in (data, ENF_MAGIC + data, ENF_MAGIC + b"\1\0\0\0\0\0\0\0" + data):
            with pytest.raises(Refusal):
                read(candidate)


@pytest.mark.parametrize("seed", SEEDS)
def test_damage_under_right_digests_is_refused_or_harmless(seed: int) -> None:
    """Whatever a stranger seals, the reader answers with a named error or a program, and cheaply."""
    rng = np.random.default_rng(seed)
    original = sections(write(random_program(rng)))
    tracemalloc.start()
    try:
        for _ in range(30):
            parts = [bytearray(part) for part in original]
            part = parts[rng.choice([0, 0, 1, 1, 2])] or parts[0]  # not all have constants
            for _ in range(int(rng.integers(1, 4))):
                part[rng.integers(len(part))] = (0, 1, 127, 255, rng.integers(256))[rng.integers(5)]
            data = assemble(*map(bytes, parts))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with suppress(*Refusal):
                read(data)
            assert tracemalloc.get_traced_memory()[1] - before < 40 * len(data) + 200_000
    finally:
        tracemalloc.stop()


def change(metadata: pb.Program, what: str, value: Any) -> None:
    """`what` is a path like "buffers.0.offset"."""
    *path, last = what.split(".")
    target: Any = metadata
    for step in path:
        target = target[int(step)] if step.isdigit() else getattr(target, step)
    if isinstance(value, list):
        getattr(target, last)[:] = value
    else:
        setattr(target, last, value)


@pytest.mark.parametrize(
    ("what", "value", "rule", "text"),
    [
        ("buffers.0.data_type", 0, "metadata", "the data type of buffer 0 is 0"),
        ("buffers.0.data_type", 99, "metadata", "the data type of buffer 0 is 99"),
        ("buffers.1.space", 0, "metadata", "the memory space of buffer 1 is 0"),
        ("buffers.0.shape", [1] * 9, "shapes", "buffer 0 has rank 9, the limit is 8"),
        ("buffers.0.shape", [1, 0], "shapes", "buffer 0 has a dimension of 0"),
        ("buffers.0.shape", [2**63], "shapes", "buffer 0 has a dimension of 9223372036854775808"),
        ("buffers.0.shape", [2**31] * 8, "shapes-are-bounded", "buffer 0 has"),
        ("buffers.0.offset", 2**64 - 64, "buffers-fit-their-space", "18446744073709552320 of dram"),
        ("constants.1.data_type", 0, "metadata", "the data type of constant 1 is 0"),
        ("constants.0.shape", [2**31] * 8, "constants", "constant 0 ends at"),
        ("constants.0.shape", [0], "shapes", "constant 0 has a dimension of 0"),
        ("constants.1.offset", 0, "constants", "constant 1 starts at 0, expected 64"),
        ("constants.1.offset", 128, "constants", "constant 1 starts at 128, expected 64"),
        ("constants.3.shape", [3], "constants", "4 bytes follow the last constant"),
        ("sections.0.kind", 0, "metadata", "section 0 of kind 0"),
        ("sections.0.kind", 7, "metadata", "section 0 of kind 7"),
        ("sections.0.graph_constant", 1, "metadata", "section 0 of kind 1 has fields of another"),
    ],
)
def test_metadata_that_means_nothing_is_refused(
    what: str, value: Any, rule: str, text: str
) -> None:
    metadata, instructions, constants = map(bytes, sections(write(a_program())))
    message = pb.Program.FromString(metadata)
    change(message, what, value)
    refuse(assemble(message.SerializeToString(), instructions, constants), rule, text)


@pytest.mark.parametrize("extra", [b"\xa0\x06\x01", b"\x3a\x03\xa0\x06\x01"])
def test_fields_of_a_later_format_are_refused(extra: bytes) -> None:
    metadata, instructions, constants = map(bytes, sections(write(a_program())))
    refuse(assemble(metadata + extra, instructions, constants), "metadata", "not known here")


def test_a_scalar_in_the_wrong_wire_type_is_refused() -> None:
    metadata, instructions, constants = map(bytes, sections(write(a_program())))
    refuse(
        assemble(metadata + b"\x2a\x01\x01", instructions, constants), "metadata", "not known here"
    )


def test_metadata_that_would_swell_in_the_parser_is_refused() -> None:
    _, instructions, constants = map(bytes, sections(write(a_program())))
    many = assemble(b"\x42\x00" * 1001, instructions, constants)  # empty buffers
    with pytest.raises(InvalidProgram, match="more than 1000 fields"):
        read(many, Limits(metadata_fields=1000))
    shape = b"\x1a" + _varint(100_000) + bytes(100_000)  # of one buffer
    packed = assemble(b"\x42" + _varint(len(shape)) + shape, instructions, constants)
    refuse(packed, "metadata", "packed numbers of 100000 bytes")
    nested = b""
    for _ in range(40):
        nested = b"\x0b" + nested  # a group in a group
    refuse(assemble(nested, instructions, constants), "metadata", "wire type 3 is not used here")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_constants_must_fill_their_padding_with_zeros() -> None:
    metadata, instructions, constants = sections(write(a_program()))
    assert constants[4:64] == bytes(60)
    constants[40] = 1
    refuse(
        assemble(bytes(metadata), bytes(instructions), bytes(constants)),
        "padding",
        "before constant 1",
    )


@pytest.mark.parametrize(
    ("at", "value", "rule", "text"),
    [
        (0, 99, "opcode", "instruction 0: opcode 99 is unknown"),
        (68, 0, "opcode", "instruction 1: opcode 0 is unknown"),
        (3, 1, "operands-are-present", "does not use axis, which is 1"),
        (66, 1, "reserved", "instruction 0: a reserved field is not zero"),
    ],
)
def test_instruction_records_are_checked(at: int, value: int, rule: str, text: str) -> None:
    metadata, instructions, constants = sections(write(a_program()))
    instructions[at] = value
    refuse(assemble(bytes(metadata), bytes(instructions), bytes(constants)), rule, text)


def test_instructions_come_whole_and_in_bounded_number() -> None:
    metadata, instructions, constants = map(bytes, sections(write(a_program())))
    refuse(
        assemble(metadata, instructions + b"\1", constants),
        "instruction-section",
        "no whole number of 68",
    )
    many = instructions[:68] * 65537
    refuse(assemble(metadata, many, constants), "counts-are-bounded", "65537, the limit is 65536")


def test_an_instruction_lies_where_the_format_says() -> None:
    """Offsets of docs/enf.md, section 3."""
    rng = np.random.default_rng(5)
    programs = (random_program(rng) for _ in range(200))
    program = next(p for p in programs if any(i.opcode is Opcode.CONV2D for i in p.instructions))
    index, i = next((n, i) for n, i in enumerate(program.instructions) if i.opcode is Opcode.CONV2D)
    record = bytes(sections(write(program))[1][68 * index : 68 * index + 68])
    opcode, pes, axis = struct.unpack_from("<HBB", record, 0)
    assert (opcode, pes, axis) == (1, i.pes, 0)
    operands = struct.unpack_from("<7I", record, 4)
    assert operands == (i.out, i.source0, NONE, i.weights, i.bias, i.multiplier, NONE)
    assert struct.unpack_from("<I", record, 32) == (i.window.group,)
    assert struct.unpack_from("<5h", record, 36) == (i.zero0, i.zero1, i.zero_out, i.low, i.high)
    assert struct.unpack_from("<4H", record, 46) == (*i.window.kernel, *i.window.strides)
    assert struct.unpack_from("<6H", record, 54) == (*i.window.pads, *i.window.dilations)
    assert struct.unpack_from("<H", record, 66) == (0,)


def test_axis_and_parameters_lie_where_the_format_says() -> None:
    draft = Draft()
    x = draft.input(DType.INT8, (1, 3, 4))
    out = draft.buffer(DType.INT8, (1, 3, 2))
    indices = draft.constant([3, 0], DType.INT32)
    draft.emit(Opcode.GATHER, out, x, axis=2, parameters=indices)
    draft.output(out)
    record = bytes(sections(write(draft.finish()))[1])
    assert struct.unpack_from("<HBB", record, 0) == (16, 1, 2)
    assert struct.unpack_from("<I", record, 28) == (indices,)
