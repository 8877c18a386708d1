"""Where the coroutines of this package wait."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def in_thread(function: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Its result, without holding up the event loop. When cancelled, the thread ends unheard."""
    import anyio.to_thread  # blocking programs do without

    return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)
