"""What a benchmark is doing, on stderr: a line that changes on a terminal, nothing in a pipe."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Final, TextIO

from furiosa.runtime.bench import BenchRunner, Stage

PERIOD: Final = 0.2  # seconds
_CLEAR: Final = "\r\x1b[K"


@contextlib.asynccontextmanager
async def watching(runner: BenchRunner, err: TextIO, *, is_verbose: bool) -> AsyncIterator[None]:
    """Shows it while the body runs; `is_verbose`: also a line for each stage, which stays."""
    is_live = err.isatty() and os.environ.get("TERM") != "dumb"
    if not (is_live or is_verbose):
        yield
        return
    task = asyncio.create_task(_show(runner, err, is_live=is_live, is_verbose=is_verbose))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _show(runner: BenchRunner, err: TextIO, *, is_live: bool, is_verbose: bool) -> None:
    stage, since = None, time.monotonic()
    with contextlib.suppress(OSError):  # nobody looks any more
        try:
            while True:
                if runner.stage is not stage:
                    stage, since = runner.stage, time.monotonic()
                    if is_verbose:
                        on = f" on {', '.join(runner.devices)}" if runner.devices else ""
                        _write(
                            err, f"{_CLEAR if is_live else ''}furiosa-bench: {stage.value}{on}\n"
                        )
                if is_live:
                    _write(err, _CLEAR + _cut(_line(runner, time.monotonic() - since), err))
                await asyncio.sleep(PERIOD)
        finally:
            if is_live:
                _write(err, _CLEAR)


def _line(runner: BenchRunner, seconds: float) -> str:
    if runner.stage is not Stage.MEASURING:
        return f"{runner.stage.value} ..."
    rate = runner.queries / max(seconds, PERIOD)
    return f"measuring: {runner.queries:,} queries in {seconds:.0f} s, {rate:,.0f}/s"


def _cut(line: str, err: TextIO) -> str:
    """To the width of the terminal: a line that wraps cannot be cleared."""
    columns = os.get_terminal_size(err.fileno()).columns or 80  # 0: nobody has told it
    return line[: columns - 1]


def _write(err: TextIO, text: str) -> None:
    err.write(text)
    err.flush()
