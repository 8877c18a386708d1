"""Waiting for what has no event, such as another process's memory; the test's timeout is the bound."""

import asyncio
import socket
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


def block_until(condition: Callable[[], bool]) -> None:
    """For tests without a loop."""
    while not condition():
        time.sleep(0.001)


async def readable(sock: socket.socket) -> None:
    """Until there is something to receive, or the end of it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
