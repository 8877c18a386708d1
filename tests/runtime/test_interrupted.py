"""Ctrl-C in the middle of a blocking run: the runner goes on working."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import furiosa.queuepair
from furiosa.common.model_limits import ENF_MAGIC
from furiosa.runtime import FuriosaRuntimeError, sync
from support.fake_connection import FakeNpu, X

ENF = ENF_MAGIC + b"program"
QUEUEPAIR = str(Path(furiosa.queuepair.__file__).parent)


class Interrupted(BaseException):
    """What a signal handler raises; KeyboardInterrupt itself would end the test run."""


class InterruptAt:
    """Raises before the `step`th line that this thread executes in the code of the queue pair."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(QUEUEPAIR):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise Interrupted
        return self

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def run(runner: sync.Runner, value: float) -> bool:
    (output,) = runner.run(np.full(X.shape, value, np.float32))
    return bool(np.all(output == 2 * value))


def test_the_next_run_works_wherever_the_last_one_was_interrupted(npu: FakeNpu) -> None:
    """A record without its ring, or a count read and forgotten, would shift all later answers."""
    with sync.create_runner(ENF, worker_num=1) as runner:
        interrupted = 0
        while True:
            try:
                with InterruptAt(interrupted + 1):
                    assert run(runner, 3)
            except Interrupted:
                interrupted += 1
                assert run(runner, interrupted), interrupted
            else:
                break
    assert interrupted > 20


def test_the_others_in_flight_are_told(npu: FakeNpu) -> None:
    with sync.create_runner(ENF) as runner:
        deployment = runner._loaded._deployments[0]
        other = deployment.runs.enter()
        with pytest.raises(Interrupted), InterruptAt(3):
            run(runner, 1)
        assert isinstance(other.outcome, FuriosaRuntimeError)
        assert "interrupted" in str(other.outcome)
        deployment.runs.leave(other)
        deployment.dispose_if_unused()
