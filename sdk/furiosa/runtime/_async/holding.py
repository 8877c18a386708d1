"""The connection and the lease of one runtime, which its loaded models share."""

import contextlib
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from furiosa.common import errors as broker
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseRecalledNotice, LeaseView, ProgramView
from furiosa.queuepair import Descriptors, Geometry
from furiosa.runtime._async import io
from furiosa.runtime._async.io import Connection
from furiosa.runtime._core.errors import SessionClosed
from furiosa.runtime._core.translate import translated
from furiosa.runtime._deployment import Deployment
from furiosa.runtime._version import VERSION

if TYPE_CHECKING:
    from furiosa.runtime._async.loaded_model import LoadedModel

_log = logging.getLogger(__name__)

CLIENT: Final = f"furiosa-runtime/{VERSION.version}"
GIVE_BACK_SECONDS: Final = 10.0  # how long giving back may hold up a cancelled task


class Holding:
    """Nothing is held until `acquire`. When nobody holds a Holding any more the broker takes it back."""

    def __init__(self, spec: DeviceSpec, wait: float | None) -> None:
        """`wait`: for so many seconds, when devices are held by others."""
        self._spec = spec
        self._wait = wait
        self._acquiring: Connection | None = None
        self._connection: Connection | None = None
        self._lease: LeaseView | None = None
        self._closed = False
        self._changing = io.Lock()  # held while acquiring or releasing
        self._hearing = threading.Lock()
        self._orphans: deque[Deployment[io.Watch]] = deque()
        self._models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        self._admitting = threading.Lock()  # of the set of models

    @property
    def device_files(self) -> tuple[DeviceFile, ...]:
        return self._held()[1].device_files

    @property
    def leased(self) -> tuple[DeviceFile, ...]:
        """The same, none when nothing is held."""
        lease = self._lease
        return () if lease is None else lease.device_files

    async def acquire(self) -> None:
        """Connect and lease, unless that is done. Raises: FuriosaRuntimeError, leaving nothing held."""
        async with self._changing:
            self.check_open()
            if self._lease is not None:
                return
            with translated():
                connection = await Connection.open(client=CLIENT)
                self._acquiring = connection
                try:
                    self.check_open()
                    lease = await connection.acquire(self._spec, self._wait)
                except BaseException:
                    await connection.close()
                    self.check_open()  # then it was `close` that ended the wait
                    raise
                finally:
                    self._acquiring = None
            # not at exit, when daemon threads may wait on it: the kernel does it then
            weakref.finalize(self, io.hang_up, connection).atexit = False
            self._connection, self._lease = connection, lease

    def check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the runtime is closed; create a new one")

    def admit(self, model: "LoadedModel") -> None:
        """From now on it hears what happens to the lease, and ends with it."""
        with self._admitting:
            self._models.add(model)

    async def close(self) -> bool:
        """Close the models, then give everything back: the devices are free for others afterwards.

        Whether the models closed in time. Twice is once.
        """
        self._closed = True
        acquiring = self._acquiring
        if acquiring is not None:
            await acquiring.close()
        models = self._admitted()
        in_time = True
        try:
            for model in models:  # all of them, before the first one is waited for
                model.shut()
            for model in models:
                in_time = await model.close(unload=False) and in_time
        finally:
            await io.uninterrupted(GIVE_BACK_SECONDS, self._release)
        return in_time

    def listen(self) -> None:
        """Pass on what happened to the lease since the last time."""
        connection, lease = self._connection, self._lease
        if connection is None or lease is None:
            return  # closed: the models know
        with self._hearing:  # whoever comes second finds the news passed on
            try:
                notices = connection.take_notices(lease.id)
            except broker.FuriosaError as error:
                self._end(error)
                return
            for notice in notices:
                if isinstance(notice, LeaseRecalledNotice):
                    text = "lease %s will be taken away in %g s: %s"
                    _log.warning(text, notice.lease_id, notice.grace, notice.cause)
                    continue
                for model in self._admitted():
                    model.hear(notice)

    def is_quiet(self) -> bool:
        """Whether `listen` would hear nothing."""
        connection, lease = self._connection, self._lease
        return (
            connection is not None
            and lease is not None
            and connection.is_quiet(lease.id)
            and not self._hearing.locked()  # last: news are taken, and passed on, with it held
        )

    def watch(self, descriptors: Sequence[int], bell: int) -> io.Watch:
        """Yours to close. Raises: SessionClosed."""
        connection, lease = self._held()
        return io.Watch(connection, lease.id, descriptors, bell)

    async def wait(self, watch: io.Watch, look: Callable[[], bool], spin_ns: int) -> None:
        """Until `look` has found something or there is something to `listen` to."""
        if self._connection is None:
            return  # closed: the models know
        try:
            await watch.wait(look, spin_ns)
        except broker.FuriosaError as error:
            self._end(error)

    async def load(self, enf: bytes, *, traced: bool) -> ProgramView:
        connection, lease = self._held()
        while self._orphans:
            await self.unload(self._orphans.popleft())
        return await connection.load_program(lease.id, enf, traced=traced)

    async def open_queue(self, file: DeviceFile, geometry: Geometry) -> tuple[int, Descriptors]:
        connection, lease = self._held()
        return await connection.open_queue(lease.id, file, geometry)

    async def unload(self, deployment: Deployment[io.Watch]) -> None:
        await self.forget(deployment.program_id, [port.queue_id for port in deployment.ports])

    async def forget(self, program_id: int, queue_ids: Sequence[int]) -> None:
        """Free what is left of them: a worker that died has taken its part along."""
        connection, lease = self._connection, self._lease
        if connection is None or lease is None:
            return  # everything has gone with the lease
        for queue_id in queue_ids:
            with contextlib.suppress(broker.FuriosaError):
                await connection.close_queue(lease.id, queue_id)
        with contextlib.suppress(broker.FuriosaError):
            await connection.unload_program(lease.id, program_id)

    def adopt(self, deployments: Sequence[Deployment[io.Watch]]) -> None:
        """What a model that was never closed has left behind. Called by the garbage collector."""
        for deployment in deployments:
            deployment.fail(SessionClosed("nobody holds it any more"))
            self._orphans.append(deployment)

    async def _release(self) -> None:
        async with self._changing:
            connection, lease = self._connection, self._lease
            if connection is None or lease is None:
                return
            self._connection = self._lease = None
            try:
                with contextlib.suppress(broker.FuriosaError):  # gone is gone
                    await connection.release(lease.id)
            finally:
                await connection.close()

    def _held(self) -> tuple[Connection, LeaseView]:
        connection, lease = self._connection, self._lease
        if connection is None or lease is None:
            raise SessionClosed("the runtime is closed; create a new one")
        return connection, lease

    def _admitted(self) -> "tuple[LoadedModel, ...]":
        with self._admitting:
            return tuple(self._models)

    def _end(self, cause: broker.FuriosaError) -> None:
        for model in self._admitted():
            model.end(cause)
