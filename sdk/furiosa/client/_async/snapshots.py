"""The answers of a stream, one at a time."""

import threading
from typing import TYPE_CHECKING

from furiosa.client._core.inbox import Call
from furiosa.common.errors import FuriosaError

if TYPE_CHECKING:
    from furiosa.client._async.session import Session


class Snapshots:
    """Of a stream that tells whole states: the newest one that nobody has taken. For one taker at a time.

    Whoever lets go of it ends the stream, as `close` does.
    """

    def __init__(self, session: "Session", call: Call) -> None:
        self._session = session
        self._call = call
        self._over = False
        self._taking = threading.Lock()

    async def take(self) -> bytes | None:
        """Waits for the next one; None when there will be none.

        Raises: what the broker says, BrokerUnavailable; RuntimeError for a second taker.
        """
        if not self._taking.acquire(blocking=False):
            raise RuntimeError("somebody else is waiting for the next state of this watch")
        try:
            data = None if self._over else await self._session.take(self._call)
            if data is None:
                self._over = True
            return data
        except FuriosaError:
            self._over = True
            raise
        finally:
            self._taking.release()

    def close(self) -> None:
        self._over = True
        self._session.abandon(self._call, blocking=True)

    def __del__(self) -> None:
        # the garbage collector may call this anywhere, also where this thread holds the session's lock
        self._session.abandon(self._call, blocking=False)
