"""Keeps this node's slices at the API server as they should be, also when somebody changes them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NoReturn

from furiosa.agent import Node
from furiosa.dra.api_server import ApiError, ApiServer
from furiosa.dra.slices import (
    DRIVER,
    Devices,
    complete,
    offered,
    slices,
    without_generation,
)

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0  # whether they are still there
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)


class Publisher:
    """`settings()` says what of a card is offered."""

    def __init__(
        self, node: Node, server: ApiServer, name: str, devices: Callable[[], Devices]
    ) -> None:
        self._node = node
        self._server = server
        self._name = name
        self._devices = devices
        self._owner: dict[str, object] = {}

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        failures = 0
        while True:
            version = self._node.version
            try:
                await self.once()
                failures = 0
            except ApiError as exc:
                log.warning("devices are not published: %s", exc)
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                continue
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._node.newer(version)
            except TimeoutError:
                continue

    async def once(self) -> None:
        """Raises: ApiError. What a broker that is away would say is left as it is."""
        state = self._node.state
        if state.is_away:
            return
        devices = self._devices()
        found = offered(state.cards, state.reservations, devices)
        wanted = slices(self._name, found, devices, await self._server.version())
        present = {each["metadata"]["name"]: each for each in await self._server.slices(self._name)}
        names = [f"{self._name}-{DRIVER}-{number}" for number in range(len(wanted))]
        is_right = present.keys() == set(names) and all(
            without_generation(present[name]["spec"]) == spec
            for name, spec in zip(names, wanted, strict=True)
        )
        if is_right:
            return
        generations = [
            each["spec"].get("pool", {}).get("generation", 0) for each in present.values()
        ]
        generation = max(generations, default=0) + 1
        # new ones first: a pool is looked at only when all slices of its newest generation are there
        for name, spec in zip(names, complete(wanted, generation), strict=True):
            if name in present:
                await self._server.update_slice(present[name], spec)
            else:
                await self._server.create_slice(name, await self._owned(), spec)
        for name in sorted(present.keys() - set(names)):
            await self._server.delete_slice(name)
        log.info("published %d devices, generation %d", len(found), generation)

    async def _owned(self) -> dict[str, object]:
        """So that slices go with their node."""
        if not self._owner:
            self._owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._name,
                "uid": await self._server.node_uid(self._name),
                "controller": True,
            }
        return self._owner
