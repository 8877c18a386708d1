"""The stream of log lines, at its descriptor."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from furiosa.broker import log_stream
from furiosa.broker.log_stream import LogStream
from support.waiting import until

LINE = b"0123456789abcdef" * 64 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for fd in ends:
        os.close(fd)


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


async def test_lines_of_one_turn_leave_together_at_its_end(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    stream.write(b"a\n")
    stream.write(b"b\n")
    assert read(pipe[0]) == b""
    await asyncio.sleep(0)
    assert read(pipe[0]) == b"a\nb\n"


async def test_what_matters_leaves_at_once_and_in_order(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    stream.write(b"a\n")
    stream.write(b"b\n", now=True)
    assert read(pipe[0]) == b"a\nb\n"


async def test_lines_of_other_threads_leave_at_once(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    thread = threading.Thread(target=stream.write, args=(b"a\n",))
    thread.start()
    thread.join()
    assert read(pipe[0]) == b"a\n"


def test_without_a_loop_lines_leave_at_once(pipe: tuple[int, int]) -> None:
    async def one() -> None:
        stream.write(b"a\n")

    stream = LogStream(pipe[1])
    asyncio.run(one())
    stream.write(b"b\n")
    assert read(pipe[0]) == b"a\nb\n"


async def test_a_full_pipe_is_emptied_as_its_reader_reads(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    for _ in range(200):
        stream.write(LINE)
    got = bytearray()

    def all_came() -> bool:
        got.extend(read(pipe[0]))
        return len(got) == 200 * len(LINE)

    await until(all_came)
    assert got == LINE * 200
    assert stream.dropped == 0
    await until(lambda: not asyncio.get_running_loop().remove_writer(pipe[1]))  # not woken for ever


async def test_more_than_the_bound_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    wanted = 2 * log_stream.MAX_PENDING_BYTES // len(LINE)
    for _ in range(wanted):
        stream.write(LINE, now=True)
    assert stream.dropped > 0
    assert stream.take_lost() == 0  # there is no room to tell
    got = bytearray()

    def all_came() -> bool:
        got.extend(read(pipe[0]))
        return len(got) == (wanted - stream.dropped) * len(LINE)

    await until(all_came)
    assert stream.take_lost() == stream.dropped
    assert stream.take_lost() == 0


def test_a_reader_who_has_gone_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = LogStream(writer)
    stream.write(b"a\n")
    stream.write(b"b\n")
    assert stream.dropped == 2
    os.close(writer)


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    stream = LogStream(fd)
    stream.write(b"a\n")
    assert stream.dropped == 1
    os.close(fd)


@pytest.mark.parametrize("end", ["", "raise KeyError('defect')", "sys.exit(3)"])
def test_no_line_is_lost_when_the_process_ends(end: str) -> None:
    code = f"""
import asyncio, logging, sys
from furiosa.broker.log import event, set_up
async def main():
    event(logging.getLogger("x"), "the.last")
    {end or "pass"}
set_up("INFO", "logfmt")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "event=the.last" in done.stderr
    assert ("defect" in done.stderr) == ("defect" in end)
