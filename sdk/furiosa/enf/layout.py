"""The file around a program: header, section table, alignment, checksums (docs/enf.md).

Every byte of a file is covered: the header by its own SHA-256, each section by one in the table, and
padding must be zero. There is exactly one place for each section, so overlaps cannot be expressed.
"""

import hashlib
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from furiosa.common.errors import InvalidProgram, UnsupportedProgram
from furiosa.common.model_limits import ENF_MAGIC
from furiosa.enf.limits import Limits, aligned, bounded

VERSION: Final = 2
SECTIONS: Final = ("metadata", "instructions", "constants")  # kinds 1, 2, 3, in file order

_HEADER: Final = struct.Struct(
    "<8sIIQII32s"
)  # magic, version, flags, size, sections, reserved, hash
_ENTRY: Final = struct.Struct("<IIQQQ32s")  # kind, reserved, offset, size, reserved, hash
_DIGEST_AT: Final = 32
HEADER_BYTES: Final = _HEADER.size + len(SECTIONS) * _ENTRY.size
assert aligned(HEADER_BYTES) == HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Sections:
    """The three sections of a file, as views into it."""

    metadata: memoryview
    instructions: memoryview
    constants: memoryview


def header_digest(header: bytes) -> bytes:
    """SHA-256 of the header with its own digest taken as zeros."""
    return hashlib.sha256(
        header[:_DIGEST_AT] + bytes(32) + header[_DIGEST_AT + 32 : HEADER_BYTES]
    ).digest()


def assemble(metadata: bytes, instructions: bytes, constants: bytes) -> bytes:
    """A file of these sections."""
    bodies = (metadata, instructions, constants)
    offsets = [HEADER_BYTES]
    for body in bodies:
        offsets.append(aligned(offsets[-1]) + len(body))
    size = offsets[-1]
    table = bytearray()
    pieces: list[bytes] = []
    for kind, (body, (end_before, end)) in enumerate(
        zip(bodies, pairwise(offsets), strict=True), start=1
    ):
        offset = end - len(body)
        table += _ENTRY.pack(kind, 0, offset, len(body), 0, hashlib.sha256(body).digest())
        pieces += [bytes(offset - end_before), body]
    header = _HEADER.pack(ENF_MAGIC, VERSION, 0, size, len(bodies), 0, bytes(32)) + bytes(table)
    digest = header_digest(header)
    header = header[:_DIGEST_AT] + digest + header[_DIGEST_AT + 32 :]
    return b"".join((header, *pieces))


def split(data: memoryview, limits: Limits) -> Sections:
    """The sections of a file, checked to the last byte and not copied.

    Raises: InvalidProgram; UnsupportedProgram for a version or a flag this reader does not know.
    """
    bounded("file-size", "the file size", len(data), limits.file_bytes)
    if len(data) < HEADER_BYTES:
        raise InvalidProgram(
            "file-size", f"{len(data)} bytes are less than a header of {HEADER_BYTES}"
        )
    header = bytes(data[:HEADER_BYTES])
    magic, version, flags, size, count, reserved, digest = _HEADER.unpack_from(header)
    if magic != ENF_MAGIC:
        raise InvalidProgram("magic", f"the file starts with {magic.hex()}, not {ENF_MAGIC.hex()}")
    if version != VERSION:
        raise UnsupportedProgram("format version", str(version), str(VERSION))
    if flags:
        raise UnsupportedProgram("set of flags", hex(flags), "0x0")
    if digest != header_digest(header):
        raise InvalidProgram("header-digest", f"the header does not hash to {digest.hex()}")
    if size != len(data):
        raise InvalidProgram("file-size", f"the header says {size} bytes, there are {len(data)}")
    if count != len(SECTIONS):
        raise InvalidProgram("section-table", f"{count} sections, expected {len(SECTIONS)}")
    if reserved:
        raise InvalidProgram("reserved", f"the header's reserved field is {reserved}")
    views = []
    end = HEADER_BYTES
    for index, name in enumerate(SECTIONS):
        views.append(_section(data, index, name, end))
        end = aligned(end) + len(views[-1])
    if end != len(data):
        raise InvalidProgram("section-table", f"{len(data) - end} bytes follow the last section")
    return Sections(*views)


def _section(data: memoryview, index: int, name: str, end_before: int) -> memoryview:
    entry = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
    kind, reserved0, offset, size, reserved1, digest = entry
    if kind != index + 1:
        raise InvalidProgram(
            "section-table", f"section {index} has kind {kind}, expected {index + 1} ({name})"
        )
    if reserved0 or reserved1:
        raise InvalidProgram("reserved", f"a reserved field of section {name} is not zero")
    if offset != aligned(end_before):
        raise InvalidProgram(
            "section-table",
            f"section {name} starts at {offset}, expected {aligned(end_before)}",
        )
    if size > len(data) - offset:
        raise InvalidProgram(
            "section-table", f"section {name} ends at {offset + size}, the file at {len(data)}"
        )
    if any(data[end_before:offset]):
        raise InvalidProgram("padding", f"the bytes before section {name} are not zero")
    body = data[offset : offset + size]
    if hashlib.sha256(body).digest() != digest:
        raise InvalidProgram("section-digest", f"section {name} does not hash to {digest.hex()}")
    return body
