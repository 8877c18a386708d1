"""How this twin waits. Written by hand, as `_sync/io.py` is; the rest of `_sync` is generated."""

import asyncio
import select
import sys
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVarTuple

import anyio

_Ts = TypeVarTuple("_Ts")


async def ready(
    reads: Collection[int], writes: Collection[int], seconds: float | None
) -> frozenset[int]:
    """Those descriptors that are ready, or have failed; none when `seconds` have passed.

    Of several `reads` other tasks may wait for the same ones at the same time.
    """
    with anyio.move_on_after(seconds):
        if len(reads) == 1 and not writes:
            await anyio.wait_readable(*reads)
            return frozenset(reads)
        return await _ready(reads, writes)
    return frozenset()


async def _ready(reads: Collection[int], writes: Collection[int]) -> frozenset[int]:
    """Through an epoll of this call: the event loop itself would refuse a second task at one descriptor."""
    with select.epoll(len(reads) + len(writes)) as epoll:
        for fd in {*reads}:
            epoll.register(fd, select.EPOLLIN)
        for fd in writes:
            if fd in reads:
                epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
            else:
                epoll.register(fd, select.EPOLLOUT)
        await anyio.wait_readable(epoll.fileno())
        return frozenset(fd for fd, _ in epoll.poll(0))


async def pause(seconds: float) -> None:
    await anyio.sleep(seconds)


def on_trio() -> bool:
    """Whether the calling task is one of trio, which whoever runs it has imported."""
    in_trio_task = getattr(sys.modules.get("trio.lowlevel"), "in_trio_task", None)
    return in_trio_task is not None and in_trio_task()


async def uninterrupted(
    seconds: float, function: Callable[[*_Ts], Coroutine[Any, Any, None]], *args: *_Ts
) -> None:
    """It runs to its end although the calling task is cancelled, but not for longer than `seconds`."""
    if on_trio():
        with anyio.move_on_after(seconds, shield=True):
            await function(*args)
        return
    # a task of its own: a scope of anyio is no shield from asyncio's own `Task.cancel`
    task = asyncio.create_task(function(*args))
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
    timer.cancel()
    failure = None if task.cancelled() else task.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise failure
