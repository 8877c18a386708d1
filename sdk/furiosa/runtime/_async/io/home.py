"""Where an object may be used."""

import asyncio

from furiosa.client._async.io import on_trio
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.process import Process


class Home(Process):
    """The process, and the event loop, of the task that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = event_loop()

    def check_in(self, what: str) -> None:
        """Raises: FuriosaRuntimeError in a forked child, and in another event loop, whose tasks nobody here
        could wake.
        """
        self.check(what)
        if (
            asyncio._get_running_loop() is not self._loop is not event_loop()
        ):  # the quicker one first
            raise FuriosaRuntimeError(
                f"this {what} belongs to another event loop; create one in the loop that uses it"
            )


def event_loop() -> object:
    """What runs the calling task: two tasks of the same one can wake each other."""
    if on_trio():
        from trio.lowlevel import current_trio_token

        return current_trio_token()
    return asyncio.get_running_loop()
