"""What the loaded models of one runtime share: the lease, who it is held through, and news of it."""

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from furiosa.common import errors as broker
from furiosa.common.causes import SHUTTING_DOWN
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    LeaseEndedNotice,
    LeaseNotice,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
)
from furiosa.runtime._async import io
from furiosa.runtime._async.claim import Claim
from furiosa.runtime._async.tenure import Tenure
from furiosa.runtime._core.errors import SessionClosed
from furiosa.runtime._core.link import Cut, Link, LinkPhase, OnBrokerRestart, Recalled, Taken
from furiosa.runtime._core.session import Closed, Ended
from furiosa.runtime._core.translate import translated
from furiosa.runtime._deployment import Deployment

if TYPE_CHECKING:
    from furiosa.runtime._async.loaded_model import LoadedModel

_log = logging.getLogger(__name__)

# What its state is when nobody tells any more.
_WITHOUT: Final = {LinkPhase.CUT: LeaseState.DETACHED, LinkPhase.ENDED: LeaseState.ENDED}

GIVE_BACK_SECONDS: Final = 10.0  # how long giving back may hold up a cancelled task
LOOK_SECONDS: Final = 1.0  # a Ctrl-C may keep whoever resumes the lease from telling the others


class Holding:
    """Nothing is held until `tenure`. When nobody holds a Holding any more the broker takes it back."""

    def __init__(self, claim: Claim, policy: OnBrokerRestart) -> None:
        self._claim = claim
        self._link = Link(policy)
        self._tenure: Tenure | None = None  # the newest; of no use while the link is cut
        self._hanging_up: weakref.finalize[..., Holding] | None = None
        self._taken = False  # somebody is about to take the lease
        self._hearing = threading.Lock()  # of all that; models are told with it held
        self._orphans: deque[Deployment[io.Watch]] = deque()
        self._models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        self._admitting = threading.Lock()  # of the set of models

    @property
    def leased(self) -> tuple[DeviceFile, ...]:
        """None before there is a lease, and after `close`."""
        tenure = self._tenure
        return () if tenure is None else tenure.lease.device_files

    @property
    def lease(self) -> LeaseView | None:
        """As far as it is known here."""
        if not self.is_quiet():
            self.listen()
        with self._hearing:
            lease = None if self._tenure is None else self._tenure.lease
            state = _WITHOUT.get(self._link.phase)
            if lease is None or state is None:
                return lease
            return replace(lease, state=state, ends_at=None, cause=str(self._link.cause))

    async def tenure(self, check: Callable[[], object]) -> Tenure:
        """The lease, taken first if there was none yet, or resumed if the broker has gone since.

        `check` raises when the caller needs it no longer, see `stir`.
        Raises: FuriosaRuntimeError (DeviceBusy, SessionClosed, SessionTerminated); what `check` raises.
        """
        while True:
            check()
            leads = False
            try:
                with self._hearing:
                    self._link.check()
                    if self._link.held:
                        assert self._tenure is not None
                        return self._tenure
                    leads = not self._taken
                    if leads:
                        self._taken = True
                if leads:
                    await self._take(check)
                else:
                    await self._claim.nap(lambda: check() or not self._taken, LOOK_SECONDS)
            finally:
                if leads:
                    self._taken = False
                    self._claim.stir()

    async def renew(self, time_to_live: float | None) -> LeaseView:
        """Raises: FuriosaRuntimeError (SessionClosed, SessionTerminated)."""
        tenure = await self.tenure(self.check)
        with translated():
            return await tenure.renew(time_to_live)

    def holds(self, tenure: Tenure) -> bool:
        """Whether it still is the one."""
        return tenure is self._tenure and self._link.held

    def check(self) -> None:
        """Raises: SessionClosed, SessionTerminated."""
        self._link.check()

    def stir(self) -> None:
        """Whoever waits in `tenure` looks whether he still should."""
        self._claim.stir()

    def admit(self, model: "LoadedModel") -> None:
        """From now on it hears what happens to the lease, and ends with it."""
        with self._admitting:
            self._models.add(model)

    async def close(self) -> bool:
        """Close the models, then give everything back: the devices are free for others afterwards.

        Whether the models closed in time. Twice is once.
        """
        with self._hearing:
            self._link.handle(Closed())
        self.stir()
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
        with self._hearing:  # whoever comes second finds the news passed on
            tenure = self._tenure
            if tenure is None or not self._link.held:
                return  # the models know
            try:
                while notices := tenure.take_notices():
                    for notice in notices:
                        self._hear(tenure, notice)
            except broker.BrokerUnavailable as error:
                self._lose(tenure, error)

    def is_quiet(self) -> bool:
        """Whether `listen` would hear nothing."""
        tenure = self._tenure
        return (
            tenure is not None
            and tenure.is_quiet()
            and not self._hearing.locked()  # last: news are taken, and passed on, with it held
        )

    async def wait(self, watch: io.Watch, look: Callable[[], bool], spin_ns: int) -> None:
        """Until `look` has found something or there is something to `listen` to."""
        if self._tenure is None:
            return  # closed: the models know
        try:
            await watch.wait(look, spin_ns)
        except broker.FuriosaError:
            self.listen()  # it may be an old one's watch; this asks the one that counts

    def lose(self, tenure: Tenure, cause: broker.BrokerUnavailable) -> None:
        """Its broker does not answer."""
        with self._hearing:
            self._lose(tenure, cause)

    async def unload(self, deployment: Deployment[io.Watch]) -> None:
        tenure = self._tenure
        if tenure is not None and deployment.tenure is tenure:  # else it went with its own
            queue_ids = [port.queue_id for port in deployment.ports]
            await tenure.forget(deployment.program_id, queue_ids)

    def adopt(self, deployments: Sequence[Deployment[io.Watch]]) -> None:
        """What a model that was never closed has left behind. Called by the garbage collector."""
        for deployment in deployments:
            deployment.fail(SessionClosed("nobody holds it any more"))
            self._orphans.append(deployment)

    async def unload_orphans(self) -> None:
        while self._orphans:
            await self.unload(self._orphans.popleft())

    async def _take(self, check: Callable[[], object]) -> None:
        """Afterwards the link is held, ended or closed."""

        def needed() -> None:
            self._link.check()
            check()

        former, began = self._tenure, time.monotonic()
        if former is None:
            with translated():
                tenure = await self._claim.take(needed)
        else:
            try:
                tenure = await self._claim.retake(former, needed)
            except broker.FuriosaError as error:
                with self._hearing:
                    self._end(error)
                return
        with self._hearing:
            taken = self._link.phase is not LinkPhase.CLOSED
            if taken:
                self._link.handle(Taken())
                self._tenure = tenure
                if self._hanging_up is not None:
                    self._hanging_up.detach()
                self._hanging_up = weakref.finalize(self, io.hang_up, tenure.connection)
                # not at exit, when daemon threads may wait on it: the kernel does it then
                self._hanging_up.atexit = False
        if not taken:
            await tenure.connection.close()
            return
        how = "granted"
        if former is not None:
            how = "resumed" if tenure.lease.id == former.lease.id else "replaced"
        names = ",".join(map(str, tenure.lease.device_files))
        text = "lease %s of %s was %s after %.3f s"
        _log.info(text, tenure.lease.id, names, how, time.monotonic() - began)

    async def _release(self) -> None:
        if self._taken:  # by somebody who has been told to stop
            await self._claim.nap(lambda: not self._taken, GIVE_BACK_SECONDS)
        with self._hearing:
            tenure, self._tenure = self._tenure, None
        if tenure is not None:
            await tenure.release()

    def _admitted(self) -> "tuple[LoadedModel, ...]":
        with self._admitting:
            return tuple(self._models)

    # the rest with `_hearing` held

    def _hear(self, tenure: Tenure, notice: LeaseNotice) -> None:
        match notice:
            case LeaseRecalledNotice(lease_id, cause, grace, state):
                _log.warning("lease %s will be taken away in %g s: %s", lease_id, grace, cause)
                ends = time.time() + grace
                tenure.lease = replace(tenure.lease, state=state, ends_at=ends, cause=cause)
                if state is LeaseState.RECALLED and cause != SHUTTING_DOWN:
                    self._link.handle(Recalled())
            case LeaseEndedNotice(lease_id, cause):
                error = broker.LeaseEnded(lease_id, cause)
                if cause == SHUTTING_DOWN:
                    self._lose(tenure, error)
                else:
                    self._end(error)
            case _:
                for model in self._admitted():
                    model.lose(broker.WorkerDied(str(notice.device_file), notice.cause))

    def _lose(self, tenure: Tenure, cause: broker.FuriosaError) -> None:
        if tenure is not self._tenure or not self._link.held:
            return  # no news
        cause.with_traceback(None)  # it is kept, and so would be what its frames hold
        if self._link.handle(Cut(cause)) is LinkPhase.ENDED:
            self._end(cause)
            return
        _log.warning("the broker has gone; lease %s will be resumed: %s", tenure.lease.id, cause)
        io.hang_up(tenure.connection)
        for model in self._admitted():
            model.lose(cause)

    def _end(self, cause: broker.FuriosaError) -> None:
        if self._link.phase is LinkPhase.CLOSED:
            return
        cause.with_traceback(None)  # likewise
        self._link.handle(Ended(cause))
        for model in self._admitted():
            model.end(cause)
