"""How this twin waits. Written by hand, as `_sync/io.py` is; the rest of `_sync` is generated."""

import contextlib
import select
from collections.abc import Collection, Iterator

import anyio


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


@contextlib.contextmanager
def uninterrupted(seconds: float) -> Iterator[None]:
    """The body runs to its end although its task is cancelled, but not for longer than `seconds`."""
    with anyio.move_on_after(seconds, shield=True):
        yield
