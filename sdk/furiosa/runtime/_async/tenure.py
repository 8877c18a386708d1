"""A lease as it is held through one connection, and what is asked of the broker for it."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from furiosa.common import errors as broker
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseNotice, LeaseView, ProgramView
from furiosa.queuepair import Descriptors, Geometry
from furiosa.runtime._async import io


class Tenure:
    """Owns the connection, which is the lease's alone. Programs and queues are of one tenure: the next one
    knows nothing of them. Methods raise what the broker says, and BrokerUnavailable.
    """

    def __init__(self, connection: "io.Connection", lease: LeaseView) -> None:
        self.connection = connection
        self.lease = lease
        self.is_quiet: Callable[[], bool] = partial(connection.is_quiet, lease.id)
        self.take_notices: Callable[[], list[LeaseNotice]] = partial(
            connection.take_notices, lease.id
        )

    def watch(self, descriptors: Sequence[int], bell: int) -> io.Watch:
        """Yours to close."""
        return io.Watch(self.connection, self.lease.id, descriptors, bell)

    async def load(self, enf: bytes, *, traced: bool) -> ProgramView:
        return await self.connection.load_program(self.lease.id, enf, traced=traced)

    async def open_queue(self, file: DeviceFile, geometry: Geometry) -> tuple[int, Descriptors]:
        return await self.connection.open_queue(self.lease.id, file, geometry)

    async def renew(self, time_to_live: float | None) -> LeaseView:
        self.lease = await self.connection.renew(self.lease.id, time_to_live)
        return self.lease

    async def forget(self, program_id: int, queue_ids: Sequence[int]) -> None:
        """Free what is left of them: a worker that died has taken its part along."""
        for queue_id in queue_ids:
            with contextlib.suppress(broker.FuriosaError):
                await self.connection.close_queue(self.lease.id, queue_id)
        with contextlib.suppress(broker.FuriosaError):
            await self.connection.unload_program(self.lease.id, program_id)

    async def release(self) -> None:
        """Returns when the devices are free."""
        try:
            with contextlib.suppress(broker.FuriosaError):  # gone is gone
                await self.connection.release(self.lease.id)
        finally:
            await self.connection.close()
