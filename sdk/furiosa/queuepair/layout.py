"""The memory of a queue pair: where its parts lie, how it is made, what is believed of one that came in.

One memfd holds, in this order: a header page, the submission ring, the completion ring, and from the
next page boundary on the arena for tensors. Sizes and offsets follow from the geometry; the header only
repeats them, for clients in other languages. docs/wire.md describes the same in tables.
"""

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Final, Self

MAGIC: Final = b"furiosaQ"
VERSION: Final = 1
RECORD_BYTES: Final = 64  # a cache line, so that neighbours never share one
ALIGNMENT: Final = 64  # of tensors, and of the arena's size
MAX_DEPTH: Final = 1024
MAX_ARENA_BYTES: Final = 1 << 40
PAGE: Final = mmap.PAGESIZE
HEADER: Final = struct.Struct("<8sIIQQQQ")  # magic, version, depth, three offsets, arena bytes

# A peer that could truncate the file would kill whoever touches the lost pages, by SIGBUS. The third
# seal keeps the first two from being argued about; F_SEAL_WRITE must be absent, both sides write.
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class BrokenQueue(Exception):
    """The other side broke an invariant of the queue pair, named in the text; detach, nothing is lost."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a queue pair. Raises: ValueError outside their bounds."""

    depth: int  # records in each ring: a power of two, 1..1024
    arena_bytes: int  # a multiple of 64

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MAX_DEPTH or self.depth & (self.depth - 1):
            raise ValueError(f"depth {self.depth} is not a power of two within 1-{MAX_DEPTH}")
        if not 0 < self.arena_bytes <= MAX_ARENA_BYTES or self.arena_bytes % ALIGNMENT:
            raise ValueError(
                f"arena of {self.arena_bytes} bytes: not a multiple of {ALIGNMENT} "
                f"within {ALIGNMENT}-{MAX_ARENA_BYTES}"
            )

    @property
    def submissions_offset(self) -> int:
        return PAGE

    @property
    def completions_offset(self) -> int:
        return self.submissions_offset + self.depth * RECORD_BYTES

    @property
    def arena_offset(self) -> int:
        return -(-(self.completions_offset + self.depth * RECORD_BYTES) // PAGE) * PAGE

    @property
    def total_bytes(self) -> int:
        return self.arena_offset + self.arena_bytes

    def header(self) -> bytes:
        return HEADER.pack(
            MAGIC,
            VERSION,
            self.depth,
            self.submissions_offset,
            self.completions_offset,
            self.arena_offset,
            self.arena_bytes,
        )


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What makes up a queue pair; both ends get copies. `close` disposes of all three."""

    memory: int
    submissions: int  # eventfd: records the client added
    completions: int  # eventfd: records the worker added

    @classmethod
    def of(cls, descriptors: tuple[int, ...] | list[int]) -> Self:
        """In the order they travel. Raises: BrokenQueue when there are not three; they stay yours."""
        if len(descriptors) != 3:
            raise BrokenQueue(f"{len(descriptors)} descriptors make no queue pair, 3 do")
        return cls(*descriptors)

    def as_tuple(self) -> tuple[int, int, int]:
        return self.memory, self.submissions, self.completions

    def close(self) -> None:
        for fd in self.as_tuple():
            os.close(fd)


def create(geometry: Geometry) -> Descriptors:
    """A new queue pair: memory sized, headed and sealed, doorbells at zero. The caller owns the result.

    Only the header page is touched: the kernel charges a page to whoever touches it first, and the
    arena is the client's to pay for, not the broker's.
    """
    opened: list[int] = []
    try:
        memory = os.memfd_create("furiosa-queue", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        opened.append(memory)
        os.ftruncate(memory, geometry.total_bytes)
        os.pwrite(memory, geometry.header(), 0)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        opened.extend(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        return Descriptors(*opened)
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise


def inspect(memory: int) -> Geometry:
    """The geometry of memory that came from elsewhere, once its seals, size and header agree.

    Seals come first: only after them is the size more than a snapshot. Raises: BrokenQueue.
    """
    try:
        seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
    except OSError as error:
        raise BrokenQueue(f"the memory cannot be sealed: {error.strerror}") from None
    if seals & SEALS != SEALS or seals & fcntl.F_SEAL_WRITE:
        raise BrokenQueue(
            f"the memory has seals {seals:#x}, needed are {SEALS:#x} without F_SEAL_WRITE"
        )
    header = os.pread(memory, HEADER.size, 0)
    if len(header) < HEADER.size:
        raise BrokenQueue(f"a header of {len(header)} bytes, expected {HEADER.size}")
    magic, version, depth, *_, arena_bytes = HEADER.unpack(header)
    if magic != MAGIC:
        raise BrokenQueue(f"magic {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise BrokenQueue(f"version {version}, expected {VERSION}")
    try:
        geometry = Geometry(depth, arena_bytes)
    except ValueError as error:
        raise BrokenQueue(str(error)) from None
    if header != geometry.header():
        raise BrokenQueue("the header's offsets do not follow from its sizes")
    size = os.fstat(memory).st_size
    if size != geometry.total_bytes:
        raise BrokenQueue(f"the memory has {size} bytes, its header says {geometry.total_bytes}")
    return geometry
