"""Faults of a virtual card as its worker acts them out, once it was told to. Without any, nothing of this
is in the way of a run.
"""

import time
from dataclasses import dataclass

from furiosa.broker.workers.child.program import Bound, Timing
from furiosa.broker.workers.messages import Inject

_DAY_SECONDS = 86_400.0


class NotFetched(Exception):
    """The inputs did not reach the card; the worker is as good as before."""

    def __str__(self) -> str:
        return "a DMA error: the inputs did not reach the card (emulated)"


@dataclass(frozen=True, slots=True)
class _Slow:
    task_ns: int
    tensor_ns: int


class Injection:
    """What `order` asks for, from now on."""

    def __init__(self, order: Inject) -> None:
        self._hang = bool(order.hang)
        self._failures = order.failures
        self._every = order.every
        self._delay_ns = order.delay_ns
        self._runs = 0

    @classmethod
    def of(cls, order: Inject) -> "Injection | None":
        """None: the card is well."""
        return cls(order) if order.hang or order.failures or order.delay_ns else None

    def execute(self, bound: Bound) -> Timing:
        """Raises: NotFetched; what `bound` raises. Never returns from a core that hangs."""
        while self._hang:
            time.sleep(_DAY_SECONDS)
        begun = time.monotonic_ns()
        if self._delay_ns:
            time.sleep(self._delay_ns / 1e9)
        if self._fails():
            raise NotFetched
        waited = time.monotonic_ns() - begun
        timing = bound.execute()
        return _Slow(waited + timing.task_ns, timing.tensor_ns)

    def _fails(self) -> bool:
        if not self._failures:
            return False
        self._runs += 1
        if self._runs % self._every:
            return False
        self._failures -= 1
        return True
