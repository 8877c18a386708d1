"""Asks the broker, in a thread of its own, and goes on when the broker has come back."""

import contextlib
import functools
import pwd
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from furiosa.cli.broker import CLIENT, Broker
from furiosa.cli.monitor.sample import Sample
from furiosa.common.errors import BrokerUnavailable, FuriosaError
from furiosa.common.views import UtilizationView

_RETRIES: Final = (0.25, 0.5, 1.0, 2.0)  # seconds between attempts; the last is repeated
_FAREWELL_SECONDS: Final = 1.0  # an attempt to connect may take longer; it ends with the process


@dataclass(frozen=True, slots=True)
class Lost:
    """The broker did not answer; it is asked again until it does."""

    why: str


Listener = Callable[[Sample | Lost], object]


class Source:
    """Tells a listener, in its thread, a sample at once, then one for each interval. Close it at the end.

    Actions are for any thread; they raise what the broker says.
    """

    def __init__(self, broker: Broker, interval_ms: int) -> None:
        """`broker` becomes the source's to close."""
        self.interval_ms = interval_ms  # taken up with the next sample
        self._broker = broker
        self._paused = False
        self._closed = False
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._uses: tuple[UtilizationView, ...] = ()  # of the last window

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._thread = threading.Thread(target=self._follow, args=(listener,), daemon=True)
        self._thread.start()

    def pause(self, paused: bool) -> None:
        """Nothing is asked while it is paused."""
        with self._news:
            self._paused = paused
            self._news.notify_all()

    def act(self, action: Callable[[Broker], str]) -> str:
        """Have the broker do something; the sentence that says what it did.

        The listener is told what is so now, in the caller's thread.
        """
        said = action(self._broker)
        if self._listener is not None:
            self._listener(replace(self._now(self._uses), is_measured=False))
        return said

    def close(self) -> None:
        """Ends what is underway."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            broker = self._broker
        broker.close()
        if self._thread is not None:
            self._thread.join(_FAREWELL_SECONDS)

    def _follow(self, listener: Listener) -> None:
        failures = 0
        measured = False
        while self._goes_on():
            try:
                if failures:
                    self._again()
                sample = self._sample(measured=measured)
            except (FuriosaError, OSError) as exc:
                if self._closed:
                    return
                listener(Lost(str(exc)))
                measured = False
                self._rest(_RETRIES[min(failures, len(_RETRIES) - 1)])
                failures += 1
                continue
            if not self._closed:
                listener(sample)
            failures = 0
            measured = True

    def _sample(self, *, measured: bool) -> Sample:
        """The call for use takes the interval, and so paces the others. The first sample does without."""
        if not measured:
            return replace(self._now(()), is_measured=False)
        self._uses = self._broker.utilization(self.interval_ms)
        return self._now(self._uses)

    def _now(self, uses: tuple[UtilizationView, ...]) -> Sample:
        return Sample(
            at=time.time(),
            devices=self._broker.devices(),
            overview=self._broker.overview(),
            processes=self._broker.processes(),
            uses=uses,
        )

    def _again(self) -> None:
        """Another connection if this one is of no more use."""
        try:
            self._broker.devices()
        except BrokerUnavailable:
            broker = self._broker.reopen(client=CLIENT)
            with self._news:
                old, self._broker = self._broker, broker
                if self._closed:
                    old = broker
            old.close()

    def _goes_on(self) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._closed or not self._paused)
            return not self._closed

    def _rest(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._closed, seconds)


@functools.cache
def user_name(uid: int) -> str:
    """A user of this machine; the number where it has no such user."""
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
