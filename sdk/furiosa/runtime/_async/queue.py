"""What `create_queue` returns: one end takes inferences, the other has their results.

Each inference is a call of the loaded model by a worker of the queue, of which there are `worker_num` per
device; one more listens for the end of the lease, which may come while nothing runs.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy.typing as npt

from furiosa.runtime._async import io
from furiosa.runtime._async.loaded_model import CLOSE_SECONDS
from furiosa.runtime._async.runner import Runner, warn_if_late
from furiosa.runtime._core.describe import Model
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.inflight import Signal
from furiosa.runtime._core.line import ENDS, Job, Line, Result
from furiosa.runtime._core.validate import TensorArray
from furiosa.runtime._halves import Halves

Array = npt.NDArray[Any]
_T = TypeVar("_T")


class Queue:
    """What the two ends share. Its workers hold it until it is over, see `Line.over`."""

    def __init__(self, runner: Runner, input_size: int, output_size: int) -> None:
        """`runner`: nobody else's; it is closed with the queue."""
        self.runner = runner
        self.loaded = runner._loaded
        self._halves: Halves | None = Halves()  # until nobody listens any more
        self._dropping: list[weakref.finalize[..., Any]] = []
        self._line = Line(input_size, output_size, self.loaded.capacity)
        self._lock = threading.Lock()  # of the line; never held while waiting
        self._crew = io.Crew(self.loaded.capacity + 1)
        self._home = io.Home()

    def open(self) -> "Ends":
        """From now on it has workers. When one of its ends is dropped they close that."""
        halves = self._halves
        assert halves is not None
        ends = Ends(Submitter(self), Receiver(self))
        self._dropping.append(weakref.finalize(ends.submitter, halves.drop_submitter))
        self._dropping.append(weakref.finalize(ends.receiver, halves.drop_receiver))
        for dropping in self._dropping:
            dropping.atexit = False
        self._crew.start(self._listen)
        self.loaded.when_over = self._find_over
        self._find_over()  # that may have been before
        return ends

    async def submit(self, inputs: TensorArray, context: object) -> None:
        job = Job(self.loaded.inputs.ordered(inputs), context)
        line = self._line

        def attempt(signal: Signal | None) -> bool | None:
            return line.submit(job, signal) or None

        await self._turn(line.senders, attempt, None)

    async def receive(self, seconds: float | None) -> tuple[Any, list[Array]]:
        """Raises: TimeoutError after so many seconds."""
        line = self._line
        result = await self._turn(line.receivers, line.receive, seconds)
        if isinstance(result.outcome, FuriosaRuntimeError):
            result.outcome.context = result.context
            raise result.outcome
        return result.context, result.outcome

    def close_input(self) -> None:
        if not self._home.is_this:
            return  # it is the parent's
        with self._lock:
            self._line.close()
        self._advance()

    async def close(self) -> bool:
        """Everything that is queued or finished is dropped. Whether what ran ended in time."""
        if not self._home.is_this:
            return True  # it is the parent's
        with self._lock:
            self._line.hang_up()
        self._disband()
        in_time = await self.runner.close()
        return await self._crew.ended(CLOSE_SECONDS) and in_time

    async def _turn(
        self,
        waiting: deque[Signal],
        attempt: Callable[[Signal | None], _T | None],
        seconds: float | None,
    ) -> _T:
        """What `attempt` makes once it is its turn. Raises: TimeoutError, and what `attempt` does."""
        self._home.check_in("queue")
        with self._lock:
            made = attempt(None)
        if made is None:
            signal = io.Signal()
            try:
                with self._lock:
                    waiting.append(signal)
                    made = attempt(signal)
                if made is None:
                    await signal.wait(seconds)
                    with self._lock:
                        made = attempt(signal)
            finally:
                with self._lock:
                    if signal in waiting:
                        waiting.remove(signal)
                self._advance()
            if made is None:
                raise TimeoutError(f"nothing was received within {seconds:g} s")
        else:
            self._advance()
        return made

    def _advance(self) -> None:
        """After the line has changed: start what can run, wake who can go on."""
        with self._lock:
            jobs = list(iter(self._line.start, None))
            signals = self._line.due()
        try:
            for signal in signals:
                signal.set()
            for job in jobs:
                self._crew.start(self._work, job)
        except BaseException:
            self._fail(_interruption())  # or who waits for the rest would wait for ever
            raise

    async def _work(self, job: Job) -> None:
        current: Job | None = job
        while current is not None:
            result = Result(current.context, await self._outcome(current))
            with self._lock:
                self._line.finish(result)
                current = self._line.start()
            self._advance()

    async def _outcome(self, job: Job) -> list[Array] | FuriosaRuntimeError:
        try:
            return await self.runner._infer(job.arrays, self.loaded.outputs.all)
        except FuriosaRuntimeError as error:
            return error
        except Exception as error:
            failure = FuriosaRuntimeError(f"the inference failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        except BaseException:
            self._fail(_interruption())
            raise

    async def _listen(self) -> None:
        """Hears of the lease, and that an end of the queue was dropped without being closed."""
        holding, halves = self.loaded._holding, self._halves
        assert halves is not None
        try:
            while not self._line.over:
                tenure = await holding.tenure(self.loaded.check)
                watch = tenure.watch((), halves.fd)
                try:
                    await holding.wait(watch, _always, 0)
                finally:
                    watch.close()
                if not holding.is_quiet():
                    holding.listen()
                halves.hush()
                if not halves.receiver:
                    await self.close()
                elif not halves.submitter:
                    self.close_input()
        except FuriosaRuntimeError:
            self._find_over()
        except BaseException:
            self._fail(_interruption())
            raise
        finally:
            for dropping in self._dropping:
                dropping.detach()
            del halves
            self._halves = None

    def _find_over(self) -> None:
        try:
            self.loaded.check()
        except FuriosaRuntimeError as error:
            self._fail(error.with_traceback(None))

    def _fail(self, failure: FuriosaRuntimeError) -> None:
        with self._lock:
            self._line.fail(failure)
        self._disband()

    def _disband(self) -> None:
        """When it is over: wake everybody."""
        self._advance()
        self._crew.dismiss()
        halves = self._halves
        if halves is not None:
            halves.ring()


class Submitter:
    """Where inferences are put in. Any number of calls may be active at once.

    A submitter that nobody holds any more is closed.
    """

    def __init__(self, queue: Queue) -> None:
        """For `create_queue`."""
        self._queue = queue

    @property
    def model(self) -> Model:
        return self._queue.loaded.model

    def allocate(self) -> list[Array]:
        """As `Runner.allocate`; leave the arrays alone until the result has been received."""
        return self._queue.runner.allocate()

    async def submit(self, inputs: TensorArray, context: object = None) -> None:
        """Queue one inference; `context` comes with its result. Waits while the input queue is full.

        Inputs: as for `Runner.run`. They are not copied, but kept until the inference has run.
        Raises: TypeError, ValueError, before anything is queued; SessionClosed, SessionTerminated,
        FuriosaRuntimeError. When it raises or is cancelled, nothing was queued.
        """
        await self._queue.submit(inputs, context)

    async def close(self) -> bool:
        """Submit no more; twice is once. Always True, and at once: what is queued runs, then the
        receiver comes to an end.
        """
        self._queue.close_input()
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Receiver(io.Receiving):
    """Where results come out, each of them once, in the order in which they are finished.

    Iterating gives all results, until the submitter is closed and nothing is left, or the receiver is
    closed. A failed inference is raised where its result would have been, with `context` set to that of
    the submission; the queue goes on, and so may whoever iterates. A receiver that nobody holds any more
    is closed.
    """

    def __init__(self, queue: Queue) -> None:
        """For `create_queue`."""
        self._queue = queue

    @property
    def model(self) -> Model:
        return self._queue.loaded.model

    async def close(self) -> bool:
        """Drop what is queued and what was not received, and give back the model's memory; the devices,
        too, when they were leased for this queue. What runs is waited for, and the result is as for
        `Runner.close`. Twice is once. Calls that wait raise SessionClosed, also those of the submitter.
        """
        return await self._queue.close()

    async def _recv(self, seconds: float | None) -> tuple[Any, list[Array]]:
        return await self._queue.receive(seconds)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Any, list[Array]]:
        try:
            return await self._recv(None)
        except ENDS:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        warn_if_late(await self.close())


class Ends(NamedTuple):
    """Both ends of a queue: unpack it, or enter it to have them closed as well."""

    submitter: Submitter
    receiver: Receiver

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.submitter.close()
        warn_if_late(await self.receiver.close())


async def open_queue(runner: Runner, sizes: tuple[int, int]) -> Ends:
    """Of so many inferences, for input and output. Owns: `runner`, closed if this fails."""
    try:
        return Queue(runner, *sizes).open()
    except BaseException:
        await runner.close()
        raise


def _always() -> bool:
    return True


def _interruption() -> FuriosaRuntimeError:
    return FuriosaRuntimeError("the queue was given up: a call or a worker of it was interrupted")
