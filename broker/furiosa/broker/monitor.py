"""Watches the cards: what happens to devices behind the broker's back, told to who must act on it.

Each look runs in a thread of its own, never two at once. One that makes no progress is given up: the
next look begins and leaves alone what the last one is stuck in, which counts as unreadable until that
thread comes back. So there is at most one lost thread for each card, and `MOST_STUCK` in all.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from furiosa.broker.devices import Foreign, foreign
from furiosa.broker.devices.look import UNSEEN, Progress, Sight
from furiosa.broker.health import CardHealth, Reading, Unavailable
from furiosa.broker.inventory import Inventory
from furiosa.broker.log import event
from furiosa.common.clock import Clock
from furiosa.common.names import DeviceFile
from furiosa.sysfs import Card

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
DOUBT_SECONDS: Final = 0.05  # the same, where a card was found not well and may be
PATIENCE_SECONDS: Final = 5.0  # without progress, before a look is given up
MOST_STUCK: Final = 16  # threads that never came back; with so many, the broker looks no more
REST: Final = 20  # times as long as a look took: at most 5 % of one core, also on a big machine
MOST_REST_SECONDS: Final = 5.0

Owners = Callable[[], Mapping[DeviceFile, Collection[int]]]  # leased files and who may use them


class _Blind(Exception):
    """So many looks are stuck that there is no other one; the text says in what."""


class Looks(Protocol):
    def look(self, before: Sight, progress: Progress) -> Sight: ...


@dataclass(frozen=True, slots=True)
class Told:
    """Whom the monitor tells, in the loop. Each is called for a change only."""

    cards: Callable[[tuple[Card, ...]], None]  # that are there now
    unavailable: Callable[[int, str | None], None]  # a card with the reason; None: it is back
    foreign: Callable[[Foreign], None]  # every file that is held without a lease


class Monitor:
    """Keeps `inventory` and `health` current. `looping` says of a card whether its workers crash."""

    def __init__(
        self,
        looks: Looks,
        inventory: Inventory,
        health: CardHealth,
        told: Told,
        *,
        owners: Owners,
        looping: Callable[[int], bool],
        clock: Clock = time.monotonic,
        interval: float = INTERVAL_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._looks = looks
        self._inventory = inventory
        self._health = health
        self._told = told
        self._owners = owners
        self._looping = looping
        self._clock = clock
        self._interval = interval
        self._patience = patience
        self._sight = UNSEEN
        self._known: dict[int, Card] = {}  # every card there ever was, as it was last
        self._foreign: Foreign = {}
        self._stuck: set[str] = set()
        self._failure = ""
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Look for ever. Cancelling is safe at any moment and waits for no thread."""
        while True:
            begun = time.monotonic()
            self._wanted.clear()
            await self.look()
            took = time.monotonic() - begun
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rest(took)):
                    await self._wanted.wait()

    def _rest(self, took: float) -> float:
        if self._health.is_in_doubt:
            return DOUBT_SECONDS
        return max(self._interval, min(took * REST, MOST_REST_SECONDS))

    def look_soon(self) -> None:
        """Something has changed: do not wait for the next time."""
        self._wanted.set()

    async def look(self) -> None:
        """Look once and tell what has changed. Not to be called twice at once."""
        owners = self._owners()
        try:
            sight = await self._sighted()
        except OSError as exc:  # says nothing about the cards, so they stay as they are
            self._failed(str(exc))
            return
        except _Blind as exc:
            self._failed(str(exc))
            self._judge({npu: Reading(readable=False) for npu in self._known})
            return
        self._failed("")
        readings = self._readings(sight)
        changed = sight.cards != self._sight.cards
        self._sight = sight
        self._known.update((card.index, card) for card in sight.cards)
        # who had a lease when the look began, or has one now, had the file open with it
        held = foreign(sight.holders, _both(owners, self._owners()))
        self._inventory.update(sight.cards, sight.sensors, held)
        if changed:
            self._told.cards(sight.cards)
        self._judge(readings)
        if held != self._foreign:
            self._tell_foreign(held)

    def _readings(self, sight: Sight) -> Mapping[int, Reading]:
        """Of the cards there are and of those there were."""
        cards = {card.index: card for card in sight.cards}
        readings = {}
        for npu in self._known.keys() | cards.keys():
            card, before = cards.get(npu), self._known.get(npu)
            sensors = sight.sensors.get(npu)
            readings[npu] = Reading(
                present=card is not None and (before is None or _same(card, before)),
                crash_looping=self._looping(npu),
                readable=sensors is not None and sensors.alive is not None,
                alive=sensors is not None and sensors.alive is True,
                temperature_millicelsius=None
                if sensors is None
                else sensors.temperature_millicelsius,
            )
        return readings

    def _judge(self, readings: Mapping[int, Reading]) -> None:
        for transition in self._health.observe(readings, self._clock()):
            device = f"npu{transition.npu}"
            if isinstance(transition, Unavailable):
                reason = transition.reason
                event(log, "device.unavailable", logging.WARNING, device=device, cause=reason)
                self._told.unavailable(transition.npu, reason)
            else:
                event(log, "device.available", device=device)
                self._told.unavailable(transition.npu, None)

    def _tell_foreign(self, held: Foreign) -> None:
        old = {holder for holders in self._foreign.values() for holder in holders}
        for holder in (holder for holders in held.values() for holder in holders):
            if holder not in old:
                event(
                    log,
                    "device.held_without_lease",
                    logging.WARNING,
                    device=holder.device_file,
                    pid=holder.pid,
                    uid=holder.uid,
                    command=holder.command_line,
                )
        self._foreign = held
        self._told.foreign(held)

    def _failed(self, cause: str) -> None:
        """Logged once, until it is another cause."""
        if cause and cause != self._failure:
            event(log, "monitor.failed", logging.ERROR, cause=cause)
        self._failure = cause

    async def _sighted(self) -> Sight:
        """Raises: OSError, as `Looks.look`; _Blind."""
        while len(self._stuck) < MOST_STUCK:
            progress, before = Progress(frozenset(self._stuck)), self._sight
            looking = _in_thread(functools.partial(self._looks.look, before, progress))
            steps = -1
            while not looking.done() and progress.steps != steps:
                steps = progress.steps
                await asyncio.wait((looking,), timeout=self._patience)
            if looking.done():
                return looking.result()
            event(log, "monitor.stuck", logging.ERROR, at=progress.at)
            self._stuck.add(progress.at)
            looking.add_done_callback(functools.partial(self._came_back, progress.at))
        raise _Blind(f"stuck in {', '.join(sorted(self._stuck))}")

    def _came_back(self, at: str, looking: "asyncio.Future[Sight]") -> None:
        """What it saw is old by now."""
        looking.exception()
        self._stuck.discard(at)
        event(log, "monitor.came_back", at=at)


def _same(card: Card, before: Card) -> bool:
    return (card.uuid, card.incarnation) == (before.uuid, before.incarnation)


def _both(
    one: Mapping[DeviceFile, Collection[int]], other: Mapping[DeviceFile, Collection[int]]
) -> Mapping[DeviceFile, Collection[int]]:
    return {file: {*one.get(file, ()), *other.get(file, ())} for file in {*one, *other}}


def _in_thread(work: Callable[[], Sight]) -> "asyncio.Future[Sight]":
    """Not in the loop's executor: the interpreter would wait at its end for a thread that is stuck.

    Raises: OSError when there is no thread to be had.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sight] = loop.create_future()

    def settle(sight: Sight | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if sight is None:
            future.set_exception(error or AssertionError)
        else:
            future.set_result(sight)

    def run() -> None:
        sight: Sight | None = None
        error: BaseException | None = None
        try:
            sight = work()
        except BaseException as exc:
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, sight, error)

    try:
        threading.Thread(target=run, name="monitor", daemon=True).start()
    except RuntimeError as exc:
        raise OSError(errno.EAGAIN, str(exc)) from None
    return future
