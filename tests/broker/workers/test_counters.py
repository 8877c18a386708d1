import os
import time
from collections.abc import Iterator

import pytest

from furiosa.broker.workers.counters import (
    PAGE_BYTES,
    Counters,
    CountersPage,
    Errors,
    create_page,
)

HOUR = 3_600_000_000_000
Pages = tuple[CountersPage, CountersPage]


@pytest.fixture
def pages() -> Iterator[Pages]:
    """The worker's and the broker's."""
    fd = create_page()
    writer, reader = CountersPage(fd), CountersPage(fd)
    os.close(fd)
    yield writer, reader
    writer.close()
    reader.close()


def later(nanoseconds: int = HOUR) -> int:
    return time.monotonic_ns() + nanoseconds


def test_the_broker_reads_what_the_worker_adds_up(pages: Pages) -> None:
    writer, reader = pages
    assert reader.read(later()) == Counters(0, 0, 0)
    writer.ended(100, 60)
    writer.ended(11, 7)
    assert reader.read(later()) == Counters(task_ns=111, tensor_ns=67, runs=2)


def test_a_run_in_progress_counts_so_far(pages: Pages) -> None:
    writer, reader = pages
    start = later()
    writer.started(start)
    assert reader.read(start + 500) == Counters(task_ns=500, tensor_ns=500, runs=0)
    writer.ended(700, 700)
    assert reader.read(start + 900) == Counters(task_ns=700, tensor_ns=700, runs=1)


def test_a_run_in_progress_computes_as_much_of_its_time_as_those_before_it(pages: Pages) -> None:
    writer, reader = pages
    start = later()
    for begun in (start, start + 2000):
        writer.started(begun)
        writer.ended(1000, 600)
    writer.started(start + 4000)
    assert reader.read(start + 5000) == Counters(task_ns=3000, tensor_ns=1800, runs=2)
    assert reader.running_ns(start + 5000) == 1000


def test_every_moment_of_the_end_of_a_run_counts_it_once(pages: Pages) -> None:
    writer, reader = pages
    words, start, seen = writer._words, later(), []

    class Watched:
        """The broker reads after every single store of the worker."""

        def __getitem__(self, index: int) -> int:
            return int(words[index])

        def __setitem__(self, index: int, value: int) -> None:
            words[index] = value
            seen.append(reader.read(start + 1000).task_ns)

    writer._words = Watched()  # type: ignore[assignment]
    try:
        writer.started(start)
        writer.ended(1000, 1000)
    finally:
        writer._words = words
    assert len(seen) == 6
    assert set(seen) == {0, 1000}
    assert seen == sorted(seen)


def test_totals_never_go_back_whatever_the_worker_writes(pages: Pages) -> None:
    writer, reader = pages
    writer.ended(100, 60)
    reader.read(later())
    writer._words[0] = writer._words[1] = writer._words[2] = 0
    assert reader.read(later()) == Counters(task_ns=100, tensor_ns=60, runs=1)


def test_no_worker_was_busier_than_there_was_time(pages: Pages) -> None:
    writer, reader = pages
    writer._words[0] = writer._words[1] = (1 << 63) - 1
    writer._words[3] = 1
    since = reader._since_ns
    assert reader.read(since + 1000) == Counters(task_ns=1000, tensor_ns=1000, runs=0)
    for lie in (-1, -(1 << 63)):
        writer._words[0] = writer._words[1] = writer._words[2] = writer._words[3] = lie
        assert reader.read(since + 2000).task_ns <= 2000


def test_the_page_cannot_be_resized() -> None:
    fd = create_page()
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, PAGE_BYTES - 1)
    finally:
        os.close(fd)


def test_errors_never_go_back_and_are_no_more_than_runs_can_fail(pages: Pages) -> None:
    writer, reader = pages
    writer.failed()
    writer.not_fetched()
    writer.not_fetched()
    writer.discarded()
    assert reader.read(later()).errors == Errors(1, 2, 1)
    writer._words[4], writer._words[5], writer._words[6] = -1, (1 << 63) - 1, 1
    assert reader.read(reader._since_ns + 7000).errors == Errors(1, 7, 1)
