"""Moves the virtual cards in a thread: what they show follows what their workers did."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from furiosa.broker.log import event
from furiosa.broker.platform.faults import Faults
from furiosa.broker.platform.platform import WELL, Failed, Measured, VirtualPlatform
from furiosa.common.names import DeviceFile

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0  # how often the cards move on their own
REST: Final = 20  # times as long as a tick took, on a slow disk or with very many busy cards


class Ticker:
    """`readings`, `errors` and `faults` are asked in the loop, at each tick: see `VirtualPlatform.tick`."""

    def __init__(
        self,
        platform: VirtualPlatform,
        readings: Callable[[], Mapping[DeviceFile, Measured | None]],
        *,
        errors: Callable[[], Mapping[DeviceFile, Failed]] = dict,
        faults: Callable[[], Faults] = lambda: WELL,
    ) -> None:
        self._platform = platform
        self._readings = readings
        self._errors = errors
        self._faults = faults
        self._thread = ThreadPoolExecutor(1, "platform")  # one, so never two ticks at once
        self._failure = ""

    async def tick(self) -> None:
        """Returns when the tree shows what the workers had done at the time of the call.

        A tree that cannot be written, e.g. on a full disk, is logged once: old values hurt nobody.
        """
        loop = asyncio.get_running_loop()
        # all of the same moment: the thread may first have to finish another tick
        tick = functools.partial(
            self._platform.tick,
            self._readings(),
            time.monotonic(),
            errors=self._errors(),
            faults=self._faults(),
        )
        try:
            await loop.run_in_executor(self._thread, tick)
            failure = ""
        except (OSError, RuntimeError) as exc:  # the latter: there is no thread to be had
            failure = str(exc)
        if failure and failure != self._failure:
            event(log, "platform.not_written", logging.ERROR, cause=failure)
        self._failure = failure

    async def run(self) -> None:
        while True:
            begun = time.monotonic()
            await self.tick()
            await asyncio.sleep(max(TICK_SECONDS, REST * (time.monotonic() - begun)))
