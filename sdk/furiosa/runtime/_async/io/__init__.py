"""How this twin waits. Written by hand, as `_sync/io.py` is; the rest of `_sync` is generated."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
import numpy.typing as npt

from furiosa.client._async.io import uninterrupted as uninterrupted
from furiosa.runtime._async.io.crew import Crew as Crew
from furiosa.runtime._async.io.home import Home as Home
from furiosa.runtime._async.io.opening import opening as opening
from furiosa.runtime._async.io.signal import Signal as Signal
from furiosa.runtime._async.io.watch import Watch as Watch

if TYPE_CHECKING:
    from furiosa.client import Connection as Connection

_T = TypeVar("_T")

Array = npt.NDArray[Any]


class Receiving(ABC):
    """What receives."""

    async def recv(self) -> tuple[Any, list[Array]]:
        """The context and the outputs of the next inference that is finished; waits for one.

        Any number of calls may be active at once. A cancelled one has received nothing.
        Raises: what the inference failed with, see `context` of the error; SessionTerminated when the
        submitter is closed and everything has been received, or the lease or the broker is gone;
        SessionClosed.
        """
        return await self._recv(None)

    @abstractmethod
    async def _recv(self, seconds: float | None) -> tuple[Any, list[Array]]: ...


async def in_thread(function: Callable[[], _T]) -> _T:
    """Its result, without holding up the event loop. When cancelled, the thread ends unheard."""
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


def lock() -> "anyio.Lock":
    """A function, since the name alone would have anyio import half of itself."""
    return anyio.Lock()


async def connect(*, client: str) -> "Connection":
    """Imported on use: what speaks to a broker is a fifth of what importing the runtime would take.

    Raises: as `Connection.open`.
    """
    from furiosa.client import Connection

    return await Connection.open(client=client)


def hang_up(connection: "Connection") -> None:
    """Close a connection where there may be no event loop any more; closing never waits."""
    with contextlib.suppress(StopIteration):
        connection.close().send(None)
        raise RuntimeError("closing a connection waited for something")
