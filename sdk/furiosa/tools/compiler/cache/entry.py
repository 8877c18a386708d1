"""The bytes of one entry: when it was made, a checksum, and the result.

magic   8 bytes   FCCACHE1
made    8 bytes   nanoseconds since 1970, unsigned, little-endian
check  32 bytes   SHA-256 of key, `made` and result: of an entry cut short, changed or renamed it is wrong
result            the rest
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"FCCACHE1"
_HEADER: Final = struct.Struct("<8sQ32s")
HEADER_BYTES: Final = _HEADER.size


class CorruptEntry(Exception):
    """Not what was once written under this key."""


@dataclass(frozen=True, slots=True)
class Entry:
    made: int  # ns since 1970
    result: bytes

    def is_valid(self, now: int, lifetime: int) -> bool:
        """`now` in ns, `lifetime` in seconds. Source: compiler reference 3.3."""
        return lifetime < 0 or now - self.made < lifetime * 1_000_000_000


def pack(key: str, entry: Entry) -> bytes:
    header = _HEADER.pack(_MAGIC, entry.made, _check(key, entry.made, entry.result))
    return header + entry.result


def unpack(key: str, header: bytes, result: bytes) -> Entry:
    """The first HEADER_BYTES of an entry, or as many as there are, and the rest. Raises: CorruptEntry."""
    if len(header) < HEADER_BYTES:
        raise CorruptEntry(f"{len(header)} bytes are too few")
    magic, made, check = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise CorruptEntry("it does not begin as an entry does")
    if check != _check(key, made, result):
        raise CorruptEntry("its checksum is wrong")
    return Entry(made, result)


def _check(key: str, made: int, result: bytes) -> bytes:
    digest = hashlib.sha256(f"{key} {made}\n".encode())
    digest.update(result)
    return digest.digest()
