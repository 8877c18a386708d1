"""Reads what cards tell of themselves, when somebody asks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from furiosa.broker.devices import read_counters
from furiosa.broker.inventory import Inventory
from furiosa.common.errors import UnknownDevice
from furiosa.common.names import DeviceFile
from furiosa.common.views import CardPart, CardTexts
from furiosa.sysfs import CounterReading, collect


class CardReader:
    """`refresh` brings the files of virtual cards up to date; None: the cards are real."""

    def __init__(
        self, root: Path, inventory: Inventory, refresh: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._root = root
        self._inventory = inventory
        self._refresh = refresh

    async def counters(
        self, files: Sequence[DeviceFile]
    ) -> Mapping[DeviceFile, CounterReading | None]:
        if self._refresh is not None:
            await self._refresh()
        return await asyncio.to_thread(lambda: {f: read_counters(self._root, f) for f in files})

    async def inspect(self, npu: int, part: CardPart) -> CardTexts:
        """Raises: UnknownDevice."""
        card = next((card for card in self._inventory.cards if card.index == npu), None)
        if card is None:
            raise UnknownDevice(f"npu{npu}")
        if self._refresh is not None:
            await self._refresh()
        return await asyncio.to_thread(collect, self._root, card, part)
