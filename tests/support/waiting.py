"""Waiting for what has no event, such as another process's memory; the test's timeout is the bound."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)
