"""Lanes of queries on a loaded model: each sends its next query when the one before is done."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio
import numpy.typing as npt

from furiosa.runtime._async.runner import Runner
from furiosa.runtime._sync.runner import Runner as BlockingRunner
from furiosa.runtime.bench.recording import Plan

Arrays = list[npt.NDArray[Any]]
Warming = AbstractContextManager[object]  # around what is not measured


async def in_tasks(runner: Runner, lanes: int, warming: Warming, plan: Plan) -> None:
    """All lanes in this event loop. Raises: what the first query that fails does."""
    inputs = [_zeros(runner.allocate()) for _ in range(lanes)]

    async def warm(arrays: Arrays) -> None:
        for _ in plan.warm_up():
            await runner.run(arrays)

    async def lane(arrays: Arrays) -> None:
        for _ in plan.turns(recording):
            await runner.run(arrays)

    try:
        with warming:
            async with anyio.create_task_group() as group:
                for arrays in inputs:
                    group.start_soon(warm, arrays)
        plan.begin()
        recording = plan.recording()
        async with anyio.create_task_group() as group:
            for arrays in inputs:
                group.start_soon(lane, arrays)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def in_threads(runner: BlockingRunner, lanes: int, warming: Warming, plan: Plan) -> None:
    """A thread for each lane. Raises: what the first query that fails does."""
    inputs = [_zeros(runner.allocate()) for _ in range(lanes)]

    def warm(arrays: Arrays) -> None:
        for _ in plan.warm_up():
            runner.run(arrays)

    def lane(arrays: Arrays) -> None:
        for _ in plan.turns(plan.recording()):
            runner.run(arrays)

    with warming:
        _each(warm, inputs, plan.stop)
    plan.begin()
    _each(lane, inputs, plan.stop)


def _each(work: Callable[[Arrays], None], inputs: list[Arrays], stop: Callable[[], None]) -> None:
    """`stop` is called when one fails. The threads do not keep a process from ending."""
    errors: list[BaseException] = []

    def act(arrays: Arrays) -> None:
        try:
            work(arrays)
        except BaseException as error:
            errors.append(error)
            stop()

    threads = [threading.Thread(target=act, args=(arrays,), daemon=True) for arrays in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _zeros(arrays: Arrays) -> Arrays:
    for array in arrays:
        array.fill(0)
    return arrays
