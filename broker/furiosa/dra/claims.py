"""What claims were allocated, as reservations and CDI files. There is no checkpoint: the broker has it.

A claim is prepared when its cores are reserved under its uid and its CDI file is there. Both can be done
again, and are, until the kubelet has its answer.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from furiosa.agent import Node
from furiosa.cdi import CLAIM_KIND, claim_device, claim_spec, qualified, remove, text, write
from furiosa.common.errors import BadDeviceFile, FuriosaError
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.dra.api_server import Allocated, ApiError, ApiServer
from furiosa.dra.slices import DRIVER
from furiosa.proto.kubelet.dra.v1 import dra_pb2 as pb

log = logging.getLogger(__name__)

PREFIX: Final = "furiosa.ai-npu-claim-"


class NotPrepared(Exception):
    """The text is for the events of the pod."""


class Claims:
    """`node_name` is the name of the pool; `folder` is where container runtimes look for CDI files."""

    def __init__(self, node: Node, server: ApiServer, node_name: str, folder: Path) -> None:
        self._node = node
        self._server = server
        self._node_name = node_name
        self._folder = folder

    async def prepare(self, claim: pb.Claim) -> Sequence[pb.Device]:
        """What the claim has here. Raises: NotPrepared."""
        try:
            found = await self._server.claim(claim.namespace, claim.name)
        except ApiError as exc:
            raise NotPrepared(str(exc)) from None
        if found.uid != claim.uid:
            raise NotPrepared(f"claim {claim.namespace}/{claim.name} is another one by now")
        mine = [each for each in found.devices if each.driver == DRIVER]
        if not mine:
            raise NotPrepared(f"claim {claim.namespace}/{claim.name} has no device of {DRIVER}")
        files = [self._file(each) for each in mine]
        label = f"{claim.namespace}/{claim.name}"
        try:
            made, where = await self._node.reserve(files, DRIVER, name=claim.uid, label=label)
        except FuriosaError as exc:
            log.warning("claim %s is not prepared: %s", label, exc)
            raise NotPrepared(str(exc)) from None
        await self._write(made, where)
        log.info("prepared claim %s: %s", label, ",".join(map(str, files)))
        return [
            pb.Device(
                request_names=[each.request.partition("/")[0]],
                pool_name=each.pool,
                device_name=each.device,
                cdi_device_ids=[qualified(claim_device(claim.uid, file), CLAIM_KIND)],
            )
            for each, file in zip(mine, files, strict=True)
        ]

    async def unprepare(self, claim: pb.Claim) -> None:
        """No effect on one that is not prepared. Raises: NotPrepared while anything of it lives."""
        try:
            for made in await self._node.reservations():
                if (made.manager, made.name) == (DRIVER, claim.uid):
                    await self._node.cancel(made.id)
                    log.info("claim %s is over", made.label)
        except FuriosaError as exc:
            raise NotPrepared(str(exc)) from None
        await self._remove(self._path(claim.uid))

    async def reconcile(self, reservations: Sequence[ReservationView], where: GrantsView) -> None:
        """After a start: a file for each claim that is reserved, and for no other."""
        mine = {r.name: r for r in reservations if r.manager == DRIVER}
        wanted = {self._path(uid): r for uid, r in mine.items()}
        for path in await asyncio.to_thread(lambda: list(self._folder.glob(f"{PREFIX}*.json"))):
            if path not in wanted:
                await self._remove(path)
        for path, made in wanted.items():
            if not path.exists():
                await self._write(made, where)

    def _file(self, allocated: Allocated) -> DeviceFile:
        if allocated.pool != self._node_name:
            raise NotPrepared(f"{allocated.device} is of node {allocated.pool}, not of this one")
        try:
            return DeviceFile.parse(allocated.device)
        except BadDeviceFile as exc:
            raise NotPrepared(str(exc)) from None

    def _path(self, uid: str) -> Path:
        return self._folder / f"{PREFIX}{uid}.json"

    async def _write(self, made: ReservationView, where: GrantsView) -> None:
        """Raises: NotPrepared."""
        spec = claim_spec(made.name, made.device_files, made.grant, self._node.state.cards, where)
        try:
            await asyncio.to_thread(write, self._path(made.name), text(spec))
        except OSError as exc:
            raise NotPrepared(f"{self._path(made.name)}: {exc.strerror}") from None

    async def _remove(self, path: Path) -> None:
        """Raises: NotPrepared."""
        try:
            await asyncio.to_thread(remove, path)
        except OSError as exc:
            raise NotPrepared(f"{path}: {exc.strerror}") from None


def told(
    results: Mapping[str, Sequence[pb.Device] | NotPrepared],
) -> pb.NodePrepareResourcesResponse:
    """Claim by claim."""
    response = pb.NodePrepareResourcesResponse()
    for uid, result in results.items():
        if isinstance(result, NotPrepared):
            response.claims[uid].error = str(result)
        else:
            response.claims[uid].devices.extend(result)
    return response
