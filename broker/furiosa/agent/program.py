"""A program that runs until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

log = logging.getLogger(__name__)

LEVELS: Final = ("debug", "info", "warning", "error")  # what --log-level takes


def run_program(work: Coroutine[Any, Any, object], log_level: str) -> None:
    """Until SIGTERM or SIGINT, which cancel it. Logs go to stderr, a line each."""
    logging.basicConfig(
        level=log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # of a kubelet that is away it says a lot
    asyncio.run(_until_told(work))
    log.info("stopped")


async def _until_told(work: Coroutine[Any, Any, object]) -> None:
    running = asyncio.get_running_loop().create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
