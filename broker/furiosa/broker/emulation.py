"""Faults of virtual cards in a running broker: which stand, until when, and who must know.

They are kept here only: a broker that starts has cards that are well.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from furiosa.broker.log import event
from furiosa.broker.platform import Faults
from furiosa.broker.workers.messages import MAX_COUNT, Inject
from furiosa.broker.workers.pool import Errors, WorkerPool
from furiosa.common.errors import UnknownDevice
from furiosa.common.faults import DmaError, FaultView, Hung, SlowDma
from furiosa.common.names import DeviceFile

log = logging.getLogger(__name__)

MOST_SECONDS: Final = 10 * 365 * 86_400.0  # for ever, as far as a fault is concerned


class Emulation:
    """`files` are those of the virtual cards; `show` brings their tree up to date."""

    def __init__(
        self,
        pool: WorkerPool,
        files: Collection[DeviceFile],
        show: Callable[[], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._files = files
        self._show = show
        # what had gone wrong before each of them began
        self._before: dict[FaultView, Mapping[DeviceFile, Errors]] = {}
        self.faults = Faults()

    def has_card(self, npu: int) -> bool:
        return any(file.npu == npu for file in self._files)

    async def set(self, view: FaultView, seconds: float | None) -> FaultView:
        """It stands for so long, in place of one of its kind on the same file; None: until it is cleared.

        When this returns, the tree shows it and workers have been told. Raises: UnknownDevice.
        """
        if view.device_file not in self._files:
            raise UnknownDevice(str(view.device_file))
        if seconds is not None:
            seconds = min(seconds, MOST_SECONDS)
            view = replace(view, ends_at=time.time() + seconds)
            asyncio.get_running_loop().call_later(seconds, self._end, view)
        self._before[view] = self._pool.errors()
        event(log, "fault.set", device=view.device_file, fault=view.fault)
        self._change(self.faults.with_(view))
        await self._show()
        return view

    async def clear(self, npu: int | None) -> int:
        """How many faults that ended, of one card or of all."""
        cleared = self.faults.of_card(npu)
        self._change(self.faults.without(*cleared))
        await self._show()
        return len(cleared)

    def _end(self, view: FaultView) -> None:
        """The tree shows it at its next tick. What was cleared or replaced meanwhile is over already."""
        if view in self.faults.standing:
            self._change(self.faults.without(view))

    def _change(self, faults: Faults) -> None:
        self.faults = faults
        for gone in self._before.keys() - set(faults.standing):
            del self._before[gone]
            event(log, "fault.ended", device=gone.device_file, fault=gone.fault)
        self._pool.inject(self._of)

    def _of(self, file: DeviceFile) -> Inject | None:
        hangs = delay = failures = 0
        every = 1
        for view in self.faults.on(file):
            match view.fault:
                case Hung():
                    hangs = 1
                case SlowDma(delay_ns):
                    delay = max(delay, delay_ns)
                case DmaError() as error if not failures:
                    every, failures = error.every, self._left(view, error, file)
        if not (hangs or delay or failures):
            return None
        return Inject(0, hangs, failures, every, delay)

    def _left(self, view: FaultView, error: DmaError, file: DeviceFile) -> int:
        """How many runs have still to fail."""
        if not error.count:
            return MAX_COUNT
        failed = self._pool.errors().get(file, Errors()).fetch
        return max(0, error.count - failed + self._before[view].get(file, Errors()).fetch)
