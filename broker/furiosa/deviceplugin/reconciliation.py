"""Ends reservations whose pods have gone: the kubelet does not tell, it only stops to list them.

A reservation is over when two lists in a row, both begun after it was made, do not name its devices, and
nothing of it lives, which the broker knows. Time alone ends nothing. The lists leave init containers out:
what nobody has come for yet also stays as long as the kubelet's checkpoint names it. Without the pod
resources API nothing is ended here: what is allocated anew replaces what was before.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from furiosa.agent import Node
from furiosa.common.errors import DeviceBusy, FuriosaError
from furiosa.common.reservations import ReservationState, ReservationView
from furiosa.deviceplugin.offers import ids_of, possible_resources
from furiosa.deviceplugin.settings import Settings
from furiosa.kubelet import PodResources, PodsDevices, noted_ids
from furiosa.kubelet.pod_resources import PodResourcesUnavailable

log = logging.getLogger(__name__)

LISTS: Final = 2  # without it


class Reconciliation:
    """`settings()` are those in force."""

    def __init__(self, node: Node, pods: PodResources, settings: Callable[[], Settings]) -> None:
        self._node = node
        self._pods = pods
        self._settings = settings
        self._missed: dict[str, int] = {}  # in how many lists, by reservation
        self._during: set[str] = set()  # allocated since the present list was begun
        self._complaint = ""

    def allocated(self, reservation: str) -> None:
        """It was just given to a pod, perhaps not for the first time."""
        self._missed.pop(reservation, None)
        self._during.add(reservation)

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._settings().interval)
            await self.once()

    async def once(self) -> None:
        """One look at the pods."""
        self._during.clear()
        try:
            standing = await self._node.reservations()
            listed = await self._pods.list()
            noted = await asyncio.to_thread(noted_ids, self._settings().plugin_dir)
        except (PodResourcesUnavailable, FuriosaError) as exc:
            if str(exc) != self._complaint:
                self._complaint = str(exc)
                log.warning("which pods have gone cannot be told now: %s", exc)
            return
        self._complaint = ""
        managers = possible_resources(self._settings())
        mine = {r.id: r for r in standing if r.manager in managers}
        given = given_ids(listed)
        self._missed = {
            id: 0 if self._is_given(r, given, noted) else self._missed.get(id, 0) + 1
            for id, r in mine.items()
            if id not in self._during
        }
        over = [mine[id] for id, count in self._missed.items() if count >= LISTS]
        lingering = {r.id for r in over if not await self._end(r)}
        await self._node.set_lingering(frozenset(lingering))

    def _is_given(
        self,
        r: ReservationView,
        given: Mapping[str, frozenset[str]],
        noted: Mapping[str, frozenset[str]],
    ) -> bool:
        if ids_of(r) & given.get(r.manager, frozenset()):
            return True
        return r.state is ReservationState.OPEN and bool(
            ids_of(r) & noted.get(r.manager, frozenset())
        )

    async def _end(self, reservation: ReservationView) -> bool:
        """False: something of it still lives, or the broker is away."""
        try:
            await self._node.cancel(reservation.id)
        except DeviceBusy as exc:
            log.warning("the pod of %s has gone, and not all of it: %s", reservation.label, exc)
            return False
        except FuriosaError as exc:
            log.warning("reservation %s is not ended: %s", reservation.id, exc)
            return False
        log.info("%s of %s is free again", reservation.label, reservation.manager)
        return True


def given_ids(listed: PodsDevices) -> dict[str, frozenset[str]]:
    """By resource, what pods have."""
    found: dict[str, frozenset[str]] = {}
    for held in listed.held:
        found[held.resource] = found.get(held.resource, frozenset()) | frozenset(held.ids)
    return found
