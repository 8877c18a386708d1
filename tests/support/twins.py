"""The two styles of the runtime behind one asynchronous face, so that each claim is tested on both."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import anyio.to_thread

import furiosa.runtime
import furiosa.runtime.sync

_T = TypeVar("_T")


class Twin(Protocol):
    """`runtime()` and the returned objects are those of the style; calls on them go through here."""

    async def create_runner(self, model: Any, **options: Any) -> Any: ...
    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any: ...
    def runtime(self, device: str | None = None) -> Any: ...
    async def run(self, runner: Any, inputs: Any) -> list[Any]: ...
    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]: ...
    async def close(self, closable: Any) -> bool: ...


class AsyncTwin:
    async def create_runner(self, model: Any, **options: Any) -> Any:
        return await furiosa.runtime.create_runner(model, **options)

    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await runtime.create_runner(model, **options)

    def runtime(self, device: str | None = None) -> Any:
        return furiosa.runtime.Runtime(device)

    async def run(self, runner: Any, inputs: Any) -> list[Any]:
        outputs: list[Any] = await runner.run(inputs)
        return outputs

    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]:
        outputs: list[Any] = await runner.run_with(names, inputs)
        return outputs

    async def close(self, closable: Any) -> bool:
        closed: bool = await closable.close()
        return closed


class SyncTwin:
    """Every call in a thread of its own, as callers of the blocking style would have it."""

    async def create_runner(self, model: Any, **options: Any) -> Any:
        return await _in_thread(furiosa.runtime.sync.create_runner, model, **options)

    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await _in_thread(runtime.create_runner, model, **options)

    def runtime(self, device: str | None = None) -> Any:
        return furiosa.runtime.sync.Runtime(device)

    async def run(self, runner: Any, inputs: Any) -> list[Any]:
        outputs: list[Any] = await _in_thread(runner.run, inputs)
        return outputs

    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]:
        outputs: list[Any] = await _in_thread(runner.run_with, names, inputs)
        return outputs

    async def close(self, closable: Any) -> bool:
        closed: bool = await _in_thread(closable.close)
        return closed


async def _in_thread(function: Callable[..., _T], *args: Any, **options: Any) -> _T:
    return await anyio.to_thread.run_sync(functools.partial(function, *args, **options))
