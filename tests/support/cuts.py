"""Calls that are cancelled, or interrupted, at the n-th place where they wait, for every n there is."""

import asyncio
import select
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import anyio
import trio

import furiosa.queuepair
import furiosa.runtime

MOST: Final = 300  # places at which any call may wait


class Cut:
    """Awaits a call and cancels it at its `place`-th await.

    `how`: "scope", by an anyio cancel scope, which cancels all later awaits as well; "task", by
    `Task.cancel`, once; "late", once, as it is about to go on because what it awaits has come.
    """

    def __init__(self, place: int, how: str) -> None:
        self.left = place
        self.done = False  # it was not cancelled, or paid no attention
        self._how = how
        self._scope = anyio.CancelScope()

    async def __call__(self, call: Awaitable[Any]) -> Any:
        """What the call returns, None when it was cancelled; `done` tells."""
        with self._scope:
            try:
                result = await _Steps(self, call)
                self.done = True
                return result
            except asyncio.CancelledError:
                if self._how == "scope":
                    raise
            finally:
                if self._how == "task" and self.left <= 0:
                    _current().uncancel()
        return None

    @property
    def came(self) -> bool:
        """Whether the call has got as far as to the place."""
        return self.left <= 0

    def waits(self) -> None:
        self.left -= 1
        if self.left == 0 and self._how == "scope":
            self._scope.cancel()
        elif self.left == 0 and self._how == "task":
            _current().cancel()

    @property
    def is_late(self) -> bool:
        return self.left == 0 and self._how == "late"


class _Steps:
    def __init__(self, cut: Cut, call: Awaitable[Any]) -> None:
        self._cut = cut
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._call.__await__()
        step = partial(steps.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            self._cut.waits()
            try:
                step = partial(steps.send, (yield awaited))
                if self._cut.is_late:
                    step = partial(steps.throw, asyncio.CancelledError())
            except BaseException as error:
                step = partial(steps.throw, error)


def _current() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def background_tasks(backend: str) -> int:
    """How many tasks there are in all."""
    if backend == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


class Interrupted(BaseException):
    """What a signal handler raises; KeyboardInterrupt itself would end the test run."""


SDK: Final = tuple(str(Path(m.__file__ or "").parent) for m in (furiosa.runtime, furiosa.queuepair))
# what may wait when the SDK calls it; of a call to the broker the result is not lost, see its own tests
POLL: Final = type(select.poll())
WAITING: Final = frozenset({"Event.wait", "Thread.start", "Thread.join"})
BROKER: Final = frozenset(
    f"FakeConnection.{name}"
    for name in (
        *("acquire", "release", "load_program", "unload_program", "open_queue", "close_queue"),
        "wait",
    )
)


class Interruption:
    """Raises `error` in this thread at its `place`-th call that may wait: instead of it or, `late`, when it
    returns.
    """

    def __init__(self, place: int, error: type[BaseException], *, late: bool) -> None:
        self.left = place
        self.done = False
        self._error = error
        self._late = late

    def __call__(self, call: Callable[[], Any]) -> Any:
        """What the call returns, None when it was interrupted; `done` tells."""
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            result = call()
            self.done = True
            return result
        except self._error:
            return None
        finally:
            sys.setprofile(before)

    @property
    def came(self) -> bool:
        return self.left <= 0

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._waits(frame, event, arg):
            self.left -= 1
            if self.left == 0:
                raise self._error

    def _waits(self, frame: FrameType, event: str, arg: Any) -> bool:
        if event == ("c_return" if self._late else "c_call"):
            polls = arg.__name__ == "poll" and isinstance(arg.__self__, POLL)
            return polls and frame.f_code.co_filename.startswith(SDK)
        caller = frame.f_back
        if caller is None or not caller.f_code.co_filename.startswith(SDK):
            return False
        name = frame.f_code.co_qualname
        if event == "call":
            return name in BROKER or (not self._late and name in WAITING)
        return event == "return" and self._late and name in WAITING
