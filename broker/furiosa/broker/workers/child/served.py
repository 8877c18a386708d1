"""One queue as the worker serves it: what was taken from it and where programs are bound in its arena."""

import logging
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from furiosa.broker.workers.child.injection import Injection, NotFetched
from furiosa.broker.workers.child.program import BadPlacement, Bound, LoadedProgram
from furiosa.broker.workers.counters import CountersPage
from furiosa.queuepair import Completion, CompletionStatus, Submission, WorkerQueue

_log = logging.getLogger(__name__)
_OK: Final = CompletionStatus.OK
MAX_COMPLAINTS: Final = 20  # log lines about one queue's runs


class ServedQueue:
    """Takes `queue`. `programs` is the worker's table, by id."""

    def __init__(
        self,
        queue: WorkerQueue,
        programs: Mapping[int, LoadedProgram],
        counters: CountersPage,
        max_bindings: int,
    ) -> None:
        self._queue = queue
        self._programs = programs
        self._counters = counters
        self._max_bindings = max_bindings
        self.injection: Injection | None = None  # of faults; None: the card is well
        self._complaints = 0
        self._taken: deque[Submission] = deque()
        # Binding costs 10 us, running a bound program 3; clients reuse their slots.
        self._bindings: OrderedDict[tuple[int, int, int], Bound] = OrderedDict()

    @property
    def submission_fd(self) -> int:
        return self._queue.submission_fd

    def take(self) -> bool:
        """Whether there is anything to run. Raises: BrokenQueue."""
        self._taken.extend(self._queue.take())
        return bool(self._taken)

    def run_one(self) -> bool:
        """Run the oldest submission and answer it; whether more are waiting. Raises: BrokenQueue."""
        submission = self._taken.popleft()
        self._queue.complete(self._run(submission))
        return bool(self._taken)

    def _run(self, submission: Submission) -> Completion:
        started = time.monotonic_ns()
        try:
            bound = self._bound(submission)
        except BadPlacement as error:
            self._counters.discarded()
            self._complain(submission, str(error))
            return Completion(submission.id, CompletionStatus.BAD_RECORD, started_ns=started)
        except Exception:
            return self._failed(submission, started)
        if bound is None:
            return Completion(submission.id, CompletionStatus.UNKNOWN_PROGRAM, started_ns=started)
        self._counters.started(started)
        try:
            timing = bound.execute() if self.injection is None else self.injection.execute(bound)
        except NotFetched as error:
            self._counters.ended(time.monotonic_ns() - started, 0)
            self._counters.not_fetched()
            self._complain(submission, str(error))
            return Completion(submission.id, CompletionStatus.DMA_ERROR, started_ns=started)
        except Exception:
            self._counters.ended(time.monotonic_ns() - started, 0)
            return self._failed(submission, started)
        task_ns, tensor_ns = timing.task_ns, timing.tensor_ns
        self._counters.ended(task_ns, tensor_ns)
        return Completion(submission.id, _OK, task_ns, tensor_ns, started)

    def _failed(self, submission: Submission, started: int) -> Completion:
        # As text: the traceback itself would keep the arena mapped for as long as a handler keeps it.
        self._counters.failed()
        self._complain(submission, traceback.format_exc())
        return Completion(submission.id, CompletionStatus.EXECUTION_FAILED, started_ns=started)

    def _complain(self, submission: Submission, reason: str) -> None:
        """A client may fail as often as it likes, but not fill the log."""
        if self._complaints < MAX_COMPLAINTS:
            self._complaints += 1
            _log.warning("run %d of program %d: %s", submission.id, submission.program, reason)

    def _bound(self, submission: Submission) -> Bound | None:
        """None when there is no such program. Raises: BadPlacement; whatever the engine raises."""
        key = submission[1:]
        bound = self._bindings.get(key)
        if bound is not None:
            self._bindings.move_to_end(key)
            return bound
        program = self._programs.get(submission.program)
        if program is None:
            return None
        bound = program.bind(self._queue.arena, submission.input_offset, submission.output_offset)
        if len(self._bindings) >= self._max_bindings:
            self._bindings.popitem(last=False)
        self._bindings[key] = bound
        return bound

    def forget(self, program: int) -> None:
        """Let go of everything bound to a program that is being unloaded."""
        for key in [key for key in self._bindings if key[0] == program]:
            del self._bindings[key]

    def close(self) -> None:
        """Bindings go first: they point into the arena."""
        self._bindings.clear()
        self._queue.close()
