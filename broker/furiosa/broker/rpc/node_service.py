"""Session/OpenDevice: the device node itself, for runtimes that drive the card on their own."""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from furiosa.broker.devices.node import NodeFault, NodeHeld, open_node
from furiosa.broker.inventory import Inventory
from furiosa.broker.lease_book import LeaseBook
from furiosa.broker.log import event
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.common.errors import BadArgument, DeviceBusy, DeviceUnavailable
from furiosa.common.names import DeviceFile
from furiosa.proto.broker.v1 import handoff_pb2 as pb

log = logging.getLogger(__name__)


class NodeService:
    """`root` is where the device tree stands."""

    def __init__(self, leases: LeaseBook, root: Path, inventory: Inventory) -> None:
        self._leases = leases
        self._root = root
        self._inventory = inventory

    @property
    def methods(self) -> Mapping[str, Method]:
        return {"Session/OpenDevice": Unary(pb.OpenDeviceRequest, self.open)}

    async def open(self, request: pb.OpenDeviceRequest, call: Call) -> pb.OpenDeviceResponse:
        session = call.need_session()
        lease = self._leases.lease_of(session, request.lease_id)
        file = DeviceFile.parse(request.device_file)
        if file not in lease.files:
            expected = " or ".join(map(str, lease.files))
            raise BadArgument("device_file", str(file), f"a file of lease {lease.id}: {expected}")
        card = next((card for card in self._inventory.cards if card.index == file.npu), None)
        if card is None:
            raise DeviceUnavailable(str(file), "the card has vanished")
        try:
            node = await _uncancelled(functools.partial(open_node, self._root, card, file))
        except NodeHeld:
            raise DeviceBusy(str(file)) from None
        except NodeFault as exc:
            raise DeviceUnavailable(str(file), str(exc)) from None
        try:
            self._leases.lease_of(session, request.lease_id)  # it may have ended meanwhile
        except BaseException:
            os.close(node)
            raise
        call.attached.append(node)
        event(log, "node.handed", lease=lease.id, device=file, pid=session.owner.pid)
        return pb.OpenDeviceResponse()


async def _uncancelled(opening: Callable[[], int]) -> int:
    """In a thread; what it opens after nobody waits any more is closed."""
    future = asyncio.ensure_future(asyncio.to_thread(opening))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_result)
        raise


def _close_result(future: "asyncio.Future[int]") -> None:
    if not future.cancelled() and future.exception() is None:
        os.close(future.result())
