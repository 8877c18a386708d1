"""Tasks in the background."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

from furiosa.client._async.io import on_trio

if TYPE_CHECKING:
    from trio.lowlevel import Task

_Ts = TypeVarTuple("_Ts")
_log = logging.getLogger(__name__)


class Crew:
    """Tasks of the event loop that outlive the call which starts them; at most `size` at a time."""

    def __new__(cls, size: int) -> "Crew":
        return super().__new__(OnTrio if on_trio() else OnAsyncio)

    def __init__(self, size: int) -> None:
        self._size = size

    def start(self, function: Callable[[*_Ts], Coroutine[Any, Any, None]], *args: *_Ts) -> None:
        raise NotImplementedError

    def dismiss(self) -> None:
        """Nobody is started any more."""

    async def ended(self, seconds: float) -> bool:
        """Whether all but the calling task end in time."""
        raise NotImplementedError


class OnAsyncio(Crew):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself would let go of them

    def start(self, function: Callable[[*_Ts], Coroutine[Any, Any, None]], *args: *_Ts) -> None:
        task = asyncio.create_task(function(*args), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self, seconds: float) -> bool:
        tasks = self._tasks - {asyncio.current_task()}
        return not tasks or not (await asyncio.wait(tasks, timeout=seconds))[1]


class OnTrio(Crew):
    """System tasks: trio cancels them when the main task has ended."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._ended: dict[Task, anyio.Event] = {}

    def start(self, function: Callable[[*_Ts], Coroutine[Any, Any, None]], *args: *_Ts) -> None:
        from trio.lowlevel import spawn_system_task

        async def serve() -> None:
            try:
                await function(*args)
            except Exception:  # what leaves a system task ends the whole run
                _log.exception("a task in the background has failed")
            finally:
                self._ended.pop(task).set()

        task = spawn_system_task(serve, name=function, context=Context())
        self._ended[task] = anyio.Event()

    async def ended(self, seconds: float) -> bool:
        from trio.lowlevel import current_task

        others = [event for task, event in self._ended.items() if task is not current_task()]
        with anyio.move_on_after(seconds):
            for event in others:
                await event.wait()
        return all(event.is_set() for event in others)
