"""What a queue pair's memory looks like, and which memory is refused."""

import fcntl
import os
import struct
import subprocess
import sys

import pytest

from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    Descriptors,
    Geometry,
    WorkerQueue,
    create,
)
from furiosa.queuepair.layout import HEADER, PAGE, SEALS, inspect
from support.queues import open_descriptors

SMALL = Geometry(4, 128)


@pytest.mark.parametrize("depth", [0, -1, 3, 12, 1025, 2048])
def test_depth_must_be_a_power_of_two_within_bounds(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth {depth} is not a power of two"):
        Geometry(depth, 64)


@pytest.mark.parametrize("arena", [0, -64, 63, 65, (1 << 40) + 64])
def test_arena_must_be_whole_cache_lines_within_bounds(arena: int) -> None:
    with pytest.raises(ValueError, match=f"arena of {arena} bytes"):
        Geometry(1, arena)


@pytest.mark.parametrize("depth", [1 << n for n in range(11)])
def test_parts_follow_one_another_without_overlap(depth: int) -> None:
    geometry = Geometry(depth, 192)
    assert HEADER.size <= geometry.submissions_offset
    assert geometry.completions_offset - geometry.submissions_offset == depth * 64
    assert geometry.arena_offset - geometry.completions_offset >= depth * 64
    assert geometry.arena_offset % PAGE == 0
    assert geometry.total_bytes == geometry.arena_offset + 192


def test_created_memory_passes_inspection_and_does_not_touch_its_arena() -> None:
    geometry = Geometry(16, 1 << 30)
    descriptors = create(geometry)
    try:
        assert inspect(descriptors.memory) == geometry
        assert os.fstat(descriptors.memory).st_blocks * 512 <= PAGE
        assert [os.get_inheritable(fd) for fd in descriptors.as_tuple()] == [False] * 3
    finally:
        descriptors.close()


def test_a_client_cannot_change_the_size_under_the_worker() -> None:
    descriptors = create(SMALL)
    try:
        for size in (0, SMALL.total_bytes - 1, SMALL.total_bytes + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptors.memory, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptors.memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        descriptors.close()


def memory_of(content: bytes, size: int, seals: int = SEALS) -> Descriptors:
    memory = os.memfd_create("forged", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    os.pwrite(memory, content, 0)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    doorbells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
    return Descriptors(memory, *doorbells)


def header(position: int, value: int | bytes) -> bytes:
    """SMALL's header with one of its fields replaced."""
    fields = list(HEADER.unpack(SMALL.header()))
    fields[position] = value
    return HEADER.pack(*fields)


HOSTILE = {
    "no shrink seal": (SMALL.header(), SMALL.total_bytes, SEALS & ~fcntl.F_SEAL_SHRINK, "seals"),
    "no grow seal": (SMALL.header(), SMALL.total_bytes, SEALS & ~fcntl.F_SEAL_GROW, "seals"),
    "no seal seal": (SMALL.header(), SMALL.total_bytes, SEALS & ~fcntl.F_SEAL_SEAL, "seals"),
    "write seal": (SMALL.header(), SMALL.total_bytes, SEALS | fcntl.F_SEAL_WRITE, "seals"),
    "empty": (b"", 0, SEALS, "a header of 0 bytes"),
    "short": (SMALL.header()[:40], 40, SEALS, "a header of 40 bytes"),
    "magic": (header(0, b"furiosaq"), SMALL.total_bytes, SEALS, "magic b'furiosaq'"),
    "version": (header(1, 2), SMALL.total_bytes, SEALS, "version 2, expected 1"),
    "depth 3": (header(2, 3), SMALL.total_bytes, SEALS, "depth 3 is not a power"),
    "depth huge": (header(2, 0xFFFFFFFF), SMALL.total_bytes, SEALS, "depth 4294967295 is not"),
    "submissions": (header(3, 0), SMALL.total_bytes, SEALS, "offsets do not follow"),
    "completions": (header(4, PAGE), SMALL.total_bytes, SEALS, "offsets do not follow"),
    "arena offset": (header(5, 1 << 63), SMALL.total_bytes, SEALS, "offsets do not follow"),
    "arena 0": (header(6, 0), SMALL.total_bytes, SEALS, "arena of 0 bytes"),
    "arena past end": (header(6, 192), SMALL.total_bytes, SEALS, "its header says"),
    "arena huge": (header(6, (1 << 64) - 64), SMALL.total_bytes, SEALS, "arena of 184467"),
    "trailing bytes": (SMALL.header(), SMALL.total_bytes + 1, SEALS, "its header says"),
    "cut off": (SMALL.header(), SMALL.total_bytes - 1, SEALS, "its header says"),
}


@pytest.mark.parametrize("end", [ClientQueue, WorkerQueue])
@pytest.mark.parametrize("case", HOSTILE)
def test_forged_memory_is_refused_by_name_and_leaves_nothing_open(
    case: str, end: type[ClientQueue] | type[WorkerQueue]
) -> None:
    content, size, seals, complaint = HOSTILE[case]
    before = open_descriptors()
    with pytest.raises(BrokenQueue, match=complaint):
        end.attach(memory_of(content, size, seals))
    assert open_descriptors() == before


def test_memory_that_is_no_memfd_is_refused() -> None:
    with pytest.raises(BrokenQueue, match="cannot be sealed"):
        ClientQueue.attach(Descriptors(*(os.eventfd(0) for _ in range(3))))


def test_worker_refuses_memory_of_another_size_than_it_was_told() -> None:
    before = open_descriptors()
    with pytest.raises(BrokenQueue, match="expected"):
        WorkerQueue.attach(create(SMALL), Geometry(8, 128))
    assert open_descriptors() == before


def test_three_descriptors_make_a_queue_pair() -> None:
    assert Descriptors.of([7, 8, 9]) == Descriptors(memory=7, submissions=8, completions=9)
    with pytest.raises(BrokenQueue, match="2 descriptors"):
        Descriptors.of([7, 8])


def test_who_only_passes_queue_pairs_on_does_not_pay_for_numpy() -> None:
    check = "import sys, furiosa.queuepair; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_header_is_what_the_documentation_says() -> None:
    expected = struct.pack("<8sII4Q", b"furiosaQ", 1, 4, PAGE, PAGE + 256, 2 * PAGE, 128)
    assert SMALL.header() == expected
