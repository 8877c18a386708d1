"""Keeps the reservations: makes them, binds them to who comes for them, ends them.

What is said is on the disk first, and what is on the disk is in force again after a restart. A core goes
from one reservation to the next only when no lease is left on it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.log import event
from furiosa.broker.reservations import saved
from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.broker.reservations.record import Asked, Reservation, decide, key_of
from furiosa.common.errors import (
    DeviceBusy,
    DeviceUnavailable,
    NotRecorded,
    UnknownDevice,
)
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import RESERVATIONS, ReservationState, ReservationView
from furiosa.common.views import Container

log = logging.getLogger(__name__)

LEASES_SECONDS: Final = 10.0  # for leases to end of which no process is left
LOOK_SECONDS: Final = 1.0  # how old it may be what is told of processes


class Keeper:
    """`audit` gets each act. Methods must be called in the event loop's thread.

    `files` are the device files that there are now, `closed(npu)` says why nothing of a card is granted.
    """

    def __init__(
        self,
        path: Path,
        grants: GrantFiles,
        arbiter: Arbiter,
        files: Callable[[], tuple[DeviceFile, ...]],
        audit: Callable[..., None],
    ) -> None:
        """Raises: OSError, ValueError when what was written down cannot be used."""
        self._path = path
        self._grants = grants
        self._arbiter = arbiter
        self._files = files
        self._audit = audit
        self._changing = asyncio.Lock()
        self._by_id = {each.id: each for each in saved.load(path)}
        self._holders: Mapping[str, tuple[int, ...]] = {}
        self._looked_at = float("-inf")
        for each in self._by_id.values():
            grants.put(each.id, each.files)
        grants.keep_only(self._by_id)
        if self._by_id:
            self._announce()

    @property
    def files(self) -> tuple[DeviceFile, ...]:
        """Those that are set aside."""
        return tuple(file for each in self._by_id.values() for file in each.files)

    def get(self, reservation: str) -> Reservation | None:
        return self._by_id.get(reservation)

    def pool_files(self, pool: str) -> tuple[DeviceFile, ...]:
        return tuple(file for r in self._by_id.values() if r.bound == pool for file in r.files)

    async def views(self) -> tuple[ReservationView, ...]:
        if self._by_id and time.monotonic() - self._looked_at >= LOOK_SECONDS:
            await self._look()
        return tuple(map(self._view, self._by_id.values()))

    async def reserve(self, asked: Asked) -> ReservationView:
        """Raises: BadArgument, UnknownDevice, DeviceUnavailable, DeviceBusy, NotRecorded."""
        asked.check()
        return await asyncio.shield(self._reserve(asked))

    async def cancel(self, reservation: str) -> None:
        """No effect when there is none. Raises: DeviceBusy, NotRecorded."""
        await asyncio.shield(self._cancel(reservation))

    def bind(self, reservation: str, container: Container | None) -> str | None:
        """The pool of who came for it; None: it is somebody else's by now, or has ended.

        It changes hands when nothing is left of whom it was before. Raises: NotRecorded.
        """
        found = self._by_id.get(reservation)
        if found is None:
            return None
        key = key_of(container)
        if found.bound == key:
            return key
        others = [r for r in self._by_id.values() if r.bound not in ("", key)]
        if any(r.overlaps(found.files) and (r is not found or self._in_use(r)) for r in others):
            return None
        bound = replace(found, bound=key, container=container)
        self._put(bound, sync=False)
        event(log, "reservation.bound", reservation=bound.id, device=_names(bound), to=key)
        self._audit("reservation.bound", **_facts(bound), to=key)
        self._announce()
        return key

    # Changes, one after the other

    async def _reserve(self, asked: Asked) -> ReservationView:
        async with self._changing:
            if any(each.overlaps(asked.files) for each in self._by_id.values()):
                await self._look()
            living = self._living()
            outcome = decide(asked, tuple(self._by_id.values()), living)
            if outcome.same is not None:
                same = replace(outcome.same, created_at=time.time(), label=asked.label)
                self._by_id[same.id] = same
                return self._view(same)
            self._check_free(asked.files, outcome.over)
            made = Reservation(
                id=secrets.token_hex(8),
                files=asked.files,
                manager=asked.manager,
                name=asked.name,
                label=asked.label,
                created_at=time.time(),
            )
            before = dict(self._by_id)
            for over in outcome.over:
                del self._by_id[over.id]
            self._by_id[made.id] = made
            self._announce()  # nobody else gets them while this is written down
            try:
                await self._leases_gone(outcome.over)
                self._grants.put(made.id, made.files)
                await self._write()
            except (OSError, TimeoutError) as exc:
                self._by_id = before
                self._announce()
                raise NotRecorded(str(exc) or "leases from before do not end") from None
            for over in outcome.over:
                self._gone(over, f"{_names(made)} was reserved anew")
            event(log, "reservation.made", **_facts(made))
            self._audit("reservation.made", **_facts(made))
            return self._view(made)

    async def _cancel(self, reservation: str) -> None:
        async with self._changing:
            found = self._by_id.get(reservation)
            if found is None:
                return
            await self._look()
            if pids := self._living().get(reservation):
                raise DeviceBusy(_names(found), _names(found), pids[0], found.reason)
            del self._by_id[reservation]
            try:
                await self._leases_gone((found,))
                await self._write()
            except (OSError, TimeoutError) as exc:
                self._by_id[reservation] = found
                raise NotRecorded(str(exc) or "its leases do not end") from None
            self._announce()
            self._gone(found, "cancelled")

    async def _look(self) -> None:
        self._holders = await asyncio.to_thread(self._grants.holders)
        self._looked_at = time.monotonic()

    async def _leases_gone(self, over: tuple[Reservation, ...]) -> None:
        """Of leases that outlive their processes. Raises: TimeoutError."""
        left = [
            lease
            for lease in self._arbiter.book.leases()
            for each in over
            if each.bound and self._arbiter.book.pool_of(lease.id) == each.bound
            if each.overlaps(lease.device_files)
        ]
        endings = [e for lease in left if (e := self._arbiter.ending(lease.id)) is not None]
        for lease in left:
            self._arbiter.revoke(lease.id, "revoked: its reservation is over", 0.0)
        if endings:
            _, late = await asyncio.wait(endings, timeout=LEASES_SECONDS)
            if late:
                raise TimeoutError

    async def _write(self) -> None:
        await asyncio.to_thread(saved.save, self._path, tuple(self._by_id.values()), sync=True)

    def _put(self, changed: Reservation, *, sync: bool) -> None:
        before = self._by_id[changed.id]
        self._by_id[changed.id] = changed
        try:
            saved.save(self._path, tuple(self._by_id.values()), sync=sync)
        except OSError as exc:
            self._by_id[changed.id] = before
            raise NotRecorded(str(exc)) from None

    def _gone(self, over: Reservation, cause: str) -> None:
        try:
            self._grants.drop(over.id)
        except OSError as exc:  # it opens nothing any more; the next start removes it
            event(log, "reservation.grant_left", logging.WARNING, file=over.id, cause=exc)
        event(log, "reservation.ended", reservation=over.id, device=_names(over), cause=cause)
        self._audit("reservation.ended", **_facts(over), cause=cause)

    def _announce(self) -> None:
        pools: dict[str, tuple[DeviceFile, ...]] = {}
        reasons: dict[DeviceFile, str] = {}
        for each in self._by_id.values():
            reasons |= dict.fromkeys(each.files, each.reason)
            if each.bound:
                pools[each.bound] = (*pools.get(each.bound, ()), *each.files)
        self._arbiter.set_aside(reasons, pools)

    # Questions

    def _living(self) -> dict[str, tuple[int, ...]]:
        """By reservation, as of the last look."""
        start = f"{RESERVATIONS}/"
        return {
            name[len(start) :]: pids
            for name, pids in self._holders.items()
            if name.startswith(start) and pids
        }

    def _in_use(self, reservation: Reservation) -> bool:
        """Whether anybody in its pool has a lease."""
        book = self._arbiter.book
        return any(book.pool_of(lease.id) == reservation.bound for lease in book.leases())

    def _check_free(self, files: tuple[DeviceFile, ...], over: tuple[Reservation, ...]) -> None:
        """Raises: UnknownDevice, DeviceUnavailable, DeviceBusy."""
        there = self._files()
        for file in files:
            if file not in there:
                raise UnknownDevice(str(file))
            if reasons := self._arbiter.book.closed(file.npu):
                raise DeviceUnavailable(str(file), f"npu{file.npu}: {'; '.join(reasons.values())}")
            self._check_holders(file, {each.bound for each in over})

    def _check_holders(self, file: DeviceFile, over: set[str]) -> None:
        for lease in self._arbiter.book.leases():
            held = next((f for f in lease.device_files if f.overlaps(file)), None)
            if held is not None and self._arbiter.book.pool_of(lease.id) not in over:
                owner = lease.owner
                command = owner.command_line or owner.remote
                raise DeviceBusy(str(file), str(held), owner.pid, command)
        for held, holders in self._arbiter.foreign.items():
            if held.overlaps(file):
                pid = holders[0].pid if holders else 0
                command = holders[0].command_line if holders else ""
                raise DeviceBusy(str(file), str(held), pid, command)

    def _view(self, each: Reservation) -> ReservationView:
        return ReservationView(
            id=each.id,
            device_files=each.files,
            manager=each.manager,
            name=each.name,
            label=each.label,
            state=ReservationState.BOUND if each.bound else ReservationState.OPEN,
            container=each.container,
            pids=self._living().get(each.id, ()),
            created_at=each.created_at,
            grant=str(self._grants.path(each.id)),
        )


def _names(each: Reservation) -> str:
    return ",".join(map(str, each.files))


def _facts(each: Reservation) -> dict[str, object]:
    return {
        "reservation": each.id,
        "device": _names(each),
        "manager": each.manager,
        "label": each.label or each.name,
    }
