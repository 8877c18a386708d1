"""A program on the devices of a lease and the runs on it: what runners are made of."""

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common import errors as broker
from furiosa.common.views import ProgramView
from furiosa.queuepair import Completion
from furiosa.runtime._async import io
from furiosa.runtime._async.holding import GIVE_BACK_SECONDS, Holding
from furiosa.runtime._async.tenure import Tenure
from furiosa.runtime._core.describe import Model, TensorDesc
from furiosa.runtime._core.errors import FuriosaRuntimeError, SessionClosed
from furiosa.runtime._core.inflight import Run, Signal, Stage
from furiosa.runtime._core.places import Layout
from furiosa.runtime._core.recording import Timed
from furiosa.runtime._core.session import Closed, Ended, Loaded, Lost, Phase, Session, terminated
from furiosa.runtime._core.stats import Stats, Tally
from furiosa.runtime._core.translate import interruption, lost, translate
from furiosa.runtime._core.validate import Inputs, Outputs
from furiosa.runtime._deployment import Deployment, Port

Array = npt.NDArray[Any]

# A death that is reported while the program is being loaded may be an old one, of a worker that this
# load has replaced already, or a new one. Loading once more is right in both cases. So it is when the
# broker has gone meanwhile.
LOADS: Final = 3
CLOSE_SECONDS: Final = 10.0  # how long close() lets runs in flight finish

# Reading a member through its class costs as much as a call.
_WAITING, _PLACED, _LOADED = Stage.WAITING, Stage.PLACED, Phase.LOADED

# Trying again on the same lease cannot help after these.
_FATAL: Final = (
    broker.LeaseEnded,
    broker.UnknownLease,
    broker.NotLeaseOwner,
    broker.NoSession,
)


class LoadedModel:
    """Any number of `infer` calls may be active at once.

    When a worker dies, or the broker goes and the lease is to be resumed, those in flight raise
    FuriosaRuntimeError and the next one loads the program anew. When the lease has ended, every call
    raises SessionTerminated; until then a lease that is being taken back works as before, and a warning
    is logged.
    """

    model: Model  # these three are set by the first `load`
    inputs: Inputs
    outputs: Outputs

    def __init__(self, holding: Holding, enf: bytes, workers: int, *, traced: bool = False) -> None:
        self.enf = enf
        self._holding = holding
        # called once: when it ends, or closing begins
        self.when_over: Callable[[], object] = _nothing
        self._workers = workers
        self._traced = traced  # its last output are the times of its steps
        self._session = Session()
        self._deployments: list[Deployment[io.Watch]] = []  # the current one, if any
        self._lock = threading.Lock()  # of these two; never held while waiting
        self._tally = Tally()
        self._changing = io.lock()  # held while loading or closing
        self._loss: broker.FuriosaError | None = None  # the last one since loading began
        # not at exit, when daemon threads may be running it
        weakref.finalize(self, holding.adopt, self._deployments).atexit = False
        holding.admit(self)

    async def load(self) -> None:
        """Put the program on the devices, unless it is there. Raises: FuriosaRuntimeError."""
        loss: broker.FuriosaError | None = None
        for _ in range(LOADS):
            tenure = await self._holding.tenure(self.check)
            async with self._changing:
                with self._lock:
                    self._session.check()
                    if self._session.phase is _LOADED:
                        return
                try:
                    if self._deployments:  # lost; what is left of it where no worker died
                        await self._holding.unload(self._deployments[0])
                        with self._lock:
                            self._deployments.clear()
                    self._loss = None
                    if await self._deploy(tenure):
                        return
                    loss = self._loss
                except broker.FuriosaError as error:
                    self._failed(tenure, error)
                    loss = error
        assert loss is not None
        raise translate(loss) from loss

    async def infer(
        self, arrays: Sequence[Array], wanted: Sequence[int], timed: Timed | None = None
    ) -> list[Array]:
        """The wanted outputs, the caller's own, for inputs that `self.inputs` has passed.

        `timed` is told how it went, if it went well.
        """
        deployment, run, loan = await self._enter(arrays)
        try:
            if run.stage is _WAITING:
                await self._sleep(deployment, run)
                self._resign(deployment, run)
            if run.stage is _PLACED:
                if loan is not None and loan[0] == run.device:
                    inputs_at = loan[1]
                else:
                    inputs_at = run.slot
                    deployment.fill(run, arrays)
                if timed is not None:
                    timed.submit()
                self._submit(deployment, run, inputs_at)
                await self._sleep(deployment, run)
            outputs = deployment.read(run, wanted)
            if timed is not None and isinstance(run.outcome, Completion):
                timed.end(deployment.ports[run.device].device, run.outcome)
            return outputs
        finally:
            try:
                with self._lock:
                    signals = deployment.runs.leave(run)
                    deployment.dispose_if_unused()
                if signals:
                    _set(signals)
            except BaseException:
                self._interrupted(deployment)
                raise

    def traced(self) -> "LoadedModel":
        """Another one, not loaded yet, of the same program with the times of its steps as its last output."""
        return LoadedModel(self._holding, self.enf, self._workers, traced=True)

    def allocate(self) -> list[Array]:
        """Input arrays in the arena of a device, else ordinary ones."""
        with self._lock:
            self._session.check()
            loaded = self._session.phase is _LOADED
            lent = self._deployments[0].loans.lend() if loaded else None
        if lent is None:
            return [np.zeros(desc.shape, desc.numpy_dtype) for desc in self.model.inputs()]
        return list(lent)

    @property
    def capacity(self) -> int:
        """How many runs its devices take at once."""
        return self._workers * len(self._holding.leased)

    def check(self) -> None:
        """Raises: SessionClosed, SessionTerminated when it can run nothing any more."""
        with self._lock:
            self._session.check()

    def stats(self) -> Stats:
        with self._lock:
            deployment = next(iter(self._deployments), None)
            return self._tally.stats(deployment.runs.unfinished if deployment else 0)

    def shut(self) -> None:
        """Refuse new calls."""
        with self._lock:
            self._session.handle(Closed())
        self._tell()
        self._holding.stir()

    async def close(self, *, unload: bool) -> bool:
        """Refuse new calls, let those in flight finish, then give everything back; twice is once.

        Whether they finished in CLOSE_SECONDS; those that did not raise SessionClosed. `unload` is
        false when the lease goes as well, and the worker with it.
        """
        self.shut()
        try:
            return await self._drained()
        finally:
            await io.uninterrupted(GIVE_BACK_SECONDS, self._give_back, unload)

    def lose(self, loss: broker.FuriosaError) -> None:
        """A worker died or the broker has gone, and with it the program; the lease stays or is resumed."""
        with self._lock:
            self._loss = loss
            self._session.handle(Lost())
            signals = self._fail(lost(loss))
        _set(signals)

    def end(self, cause: broker.FuriosaError) -> None:
        """The lease is gone."""
        with self._lock:
            self._session.handle(Ended(cause))
            signals = self._fail(terminated(cause))
        _set(signals)
        self._tell()

    async def _enter(
        self, arrays: Sequence[Array]
    ) -> tuple[Deployment[io.Watch], Run, tuple[int, int] | None]:
        """A new run; with device and offset of its inputs, when they are in the arena already."""
        while True:
            if not self._holding.is_quiet():
                self._holding.listen()
            with self._lock:
                if self._session.phase is _LOADED:
                    deployment = self._deployments[0]
                    loan = deployment.loans.find(arrays)
                    try:
                        return deployment, deployment.runs.enter(loan and loan[0]), loan
                    except BaseException:
                        signals = self._lose(deployment, interruption())
                        _set(signals)
                        raise
                self._session.check()
            await self.load()

    def _submit(self, deployment: Deployment[io.Watch], run: Run, inputs_at: int) -> None:
        try:
            with self._lock:
                if run.stage is _PLACED:  # else it was failed while its inputs were copied
                    deployment.submit(run, inputs_at)
        except FuriosaRuntimeError as error:
            self._give_up(deployment, error)
        except BaseException:
            self._interrupted(deployment)
            raise

    async def _sleep(self, deployment: Deployment[io.Watch], run: Run) -> None:
        """Until the run has its slot or its outcome; leading or following, see `_core.inflight`.

        A run that leads goes on doing so, until it resigns or leaves.
        """
        runs = deployment.runs
        while True:
            with self._lock:
                if not run.asleep:
                    return
                leads = runs.lead(run)
                if not leads:
                    signal = io.Signal()
                    runs.follow(run, signal)
            if not leads:
                await signal.wait()
                continue
            look = partial(self._look, deployment, run)
            while run.asleep:
                await self._holding.wait(deployment.watch, look, deployment.spin_ns)
                if run.asleep and not self._holding.is_quiet():
                    self._holding.listen()
            return

    def _resign(self, deployment: Deployment[io.Watch], run: Run) -> None:
        """It has other things to do than to read for others."""
        with self._lock:
            signals = deployment.runs.resign(run)
        _set(signals)

    def _look(self, deployment: Deployment[io.Watch], run: Run) -> bool:
        """Collect; whether `run`, which leads, must wake: it has what it waits for, or there are news."""
        return not self._collect(deployment) or not run.asleep

    def _collect(self, deployment: Deployment[io.Watch]) -> bool:
        """Whether there were completions."""
        signals: list[Signal] = []
        try:
            with self._lock:
                return deployment.runs.failure is None and deployment.collect(signals)
        except FuriosaRuntimeError as error:
            self._give_up(deployment, error)
            return False
        except BaseException:
            self._interrupted(deployment)
            raise
        finally:
            if signals:
                _set(signals)

    def _give_up(self, deployment: Deployment[io.Watch], error: FuriosaRuntimeError) -> None:
        self._holding.listen()  # the broker may know a better reason
        with self._lock:
            signals = self._lose(deployment, error)
        _set(signals)

    def _interrupted(self, deployment: Deployment[io.Watch]) -> None:
        """A Ctrl-C at the wrong moment: between a record and its ring, say, which shifts all later ones."""
        with self._lock:
            signals = self._lose(deployment, interruption())
        _set(signals)

    def _lose(
        self, deployment: Deployment[io.Watch], error: FuriosaRuntimeError
    ) -> Sequence[Signal]:
        if deployment.runs.failure is not None:
            return ()
        self._session.handle(Lost())
        return deployment.fail(error)

    def _fail(self, failure: FuriosaRuntimeError) -> Sequence[Signal]:
        return self._deployments[0].fail(failure) if self._deployments else ()

    def _tell(self) -> None:
        when_over, self.when_over = self.when_over, _nothing
        when_over()

    async def _drained(self) -> bool:
        signal = io.Signal()
        with self._lock:
            if not self._deployments or self._deployments[0].runs.drain(signal):
                return True
        return await signal.wait(CLOSE_SECONDS)

    async def _give_back(self, unload: bool) -> None:
        async with self._changing:
            with self._lock:
                signals = self._fail(SessionClosed("the session was closed"))
            _set(signals)
            if unload:
                for deployment in self._deployments:
                    await self._holding.unload(deployment)
            self._deployments.clear()

    def _failed(self, tenure: Tenure, error: broker.FuriosaError) -> None:
        """Raises what loading failed with, unless it was the broker's going: then to load again may help."""
        if isinstance(error, broker.BrokerUnavailable):
            self._holding.lose(tenure, error)
        else:
            self._holding.listen()  # the broker may know a better reason
        self.check()
        if not self._holding.holds(tenure):
            return
        if isinstance(error, _FATAL):
            self.end(error)
            self.check()
        raise translate(error) from error

    async def _deploy(self, tenure: Tenure) -> bool:
        """Whether the program is on every device; if not, it was lost meanwhile, see `_loss`."""
        await self._holding.unload_orphans()
        program = await tenure.load(self.enf, traced=self._traced)
        layout = Layout(program.inputs, program.outputs, self._workers)
        queue_ids: list[int] = []
        ports: list[Port] = []
        adopted = False
        try:
            with ExitStack() as opened:
                for file in tenure.lease.device_files:
                    queue_id, descriptors = await tenure.open_queue(file, layout.geometry)
                    queue_ids.append(queue_id)
                    port = Port.attach(file, queue_id, descriptors, layout.geometry)
                    opened.callback(port.queue.close)
                    ports.append(port)
                deployment = Deployment(program.id, layout, ports, tenure, self._tally)
                opened.callback(deployment.close)
                self._describe(program)
                adopted = self._adopt(deployment)
                if adopted:
                    opened.pop_all()
        finally:
            if not adopted:
                await io.uninterrupted(GIVE_BACK_SECONDS, tenure.forget, program.id, queue_ids)
        return adopted

    def _adopt(self, deployment: Deployment[io.Watch]) -> bool:
        """Make it the current one, unless it is lost already. Raises: when closed or ended."""
        self._holding.listen()
        with self._lock:
            self._session.check()
            if self._loss is not None:
                return False
            self._session.handle(Loaded())
            self._deployments.append(deployment)
            return True

    def _describe(self, program: ProgramView) -> None:
        self.model = Model(
            [TensorDesc.of(spec) for spec in program.inputs],
            [TensorDesc.of(spec) for spec in program.outputs],
        )
        self.inputs = Inputs(program.inputs)
        self.outputs = Outputs(program.outputs)


def _nothing() -> None:
    pass


def _set(signals: Sequence[Signal]) -> None:
    for signal in signals:
        signal.set()
