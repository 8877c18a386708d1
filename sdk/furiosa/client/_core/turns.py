"""Who reads the connection: of all who wait, one leads and reads for the others.

There is no background thread or task. A waiter that finds nobody leading leads; when it leaves, the
next one is named leader and woken. So while anybody waits somebody reads, and exactly one does.

Methods are called under the connection's lock, except `Waiter.hush`.
"""

import contextlib
import os


class Waiter:
    """One caller that waits. A follower has a bell: an eventfd, readable once the waiter must look."""

    __slots__ = ("bell",)

    def __init__(self) -> None:
        self.bell: int | None = None  # the leader needs none: it is the one who sees news first

    def ring(self) -> None:
        if self.bell is not None:
            os.eventfd_write(self.bell, 1)

    def hush(self) -> None:
        """Take back the rings so far; look for news only afterwards, or one may be missed."""
        if self.bell is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.bell)


class Turns:
    """The waiters, in order of arrival. A leader is named exactly while there are any."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}
        self._leader: Waiter | None = None
        self._bells: list[int] = []  # all there are
        self._free: list[int] = []

    @property
    def idle(self) -> bool:
        return not self._waiters

    def leads(self, waiter: Waiter) -> bool:
        return self._leader is waiter

    def enter(self, waiter: Waiter) -> None:
        self._waiters[waiter] = None  # first, as it is last in `leave`: who has a bell is a waiter
        if self._leader is None:
            self._leader = waiter
        else:
            self._hand_bell(waiter)

    def leave(self, waiter: Waiter) -> None:
        """No effect on one that has left or never entered.

        The order of the steps is such that a second time repairs a first one that a Ctrl-C cut short.
        """
        if self._leader is waiter:
            following = next((other for other in self._waiters if other is not waiter), None)
            if following is not None:
                following.ring()
            self._leader = following
        bell, waiter.bell = waiter.bell, None
        if bell is not None:
            self._free.append(bell)
        self._waiters.pop(waiter, None)

    def ring_all(self) -> None:
        for waiter in self._waiters:
            waiter.ring()

    def close(self) -> None:
        """Only when idle. Those who enter afterwards get bells anew."""
        self._free.clear()  # or a number that is another file's by then would be rung
        while self._bells:
            os.close(self._bells.pop())

    def _hand_bell(self, waiter: Waiter) -> None:
        if not self._free:
            # a Ctrl-C that came between a call of eventfd and a store of its result would lose the
            # descriptor; it cannot come inside `extend`
            self._bells.extend(map(os.eventfd, (0,), (os.EFD_CLOEXEC | os.EFD_NONBLOCK,)))
            self._free.append(self._bells[-1])
        waiter.bell = self._free[-1]
        del self._free[-1]
        waiter.hush()  # of who had it before
