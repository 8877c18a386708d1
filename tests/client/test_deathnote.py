"""The client's half of the death notice: what it leaves in the memory, and when."""

import os
import threading
from collections.abc import Iterator

import pytest

from furiosa.client import deathnote
from furiosa.client.deathnote import DeathNote


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("death")
    os.ftruncate(fd, deathnote.MEMORY_BYTES)
    yield fd
    os.close(fd)


def holder(memory: int) -> int:
    """The thread that the mutex in `memory` says it is held by; 0 for none."""
    low, high = (int.from_bytes(os.pread(memory, 4, offset), "little") for offset in (0, 4))
    return os.getpid() if os.getpid() in (low, high) else 0


def in_thread(memory: int) -> DeathNote | None:
    made: list[DeathNote | None] = []
    thread = threading.Thread(target=lambda: made.append(deathnote.arm(memory)))
    thread.start()
    thread.join()
    return made[0]


def test_main_thread_holds_the_mutex_until_the_note_is_closed(memory: int) -> None:
    note = deathnote.arm(memory)
    assert note is not None
    assert note.thread_id == os.getpid() == holder(memory)
    note.close()
    assert holder(memory) == 0
    note.close()


def test_two_notes_are_held_at_once(memory: int) -> None:
    second = os.memfd_create("death")
    os.ftruncate(second, deathnote.MEMORY_BYTES)
    first_note, second_note = deathnote.arm(memory), deathnote.arm(second)
    assert first_note is not None
    assert second_note is not None
    first_note.close()
    assert (holder(memory), holder(second)) == (0, os.getpid())
    second_note.close()
    os.close(second)


def test_other_threads_arm_nothing(memory: int) -> None:
    assert in_thread(memory) is None
    assert holder(memory) == 0


def test_note_closed_by_another_thread_stays_locked(memory: int) -> None:
    note = deathnote.arm(memory)
    assert note is not None
    thread = threading.Thread(target=note.close)
    thread.start()
    thread.join()
    assert holder(memory) == os.getpid()
    note.close()


def test_memory_that_could_kill_us_is_left_alone() -> None:
    small = os.memfd_create("death")
    reading, writing = os.pipe()
    assert deathnote.arm(small) is None
    assert deathnote.arm(reading) is None
    for fd in (small, reading, writing):
        os.close(fd)
