"""The two styles of the runtime, one of them under both libraries that it runs under, behind one
asynchronous face, so that each claim is tested on all.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import anyio.to_thread
import trio

import furiosa.runtime
import furiosa.runtime.sync

_T = TypeVar("_T")


class Twin(Protocol):
    """`runtime()` and the returned objects are those of the style; calls on them go through here."""

    async def create_runner(self, model: Any, **options: Any) -> Any: ...
    async def create_queue(self, model: Any, **options: Any) -> Any: ...
    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any: ...
    async def queue_of(self, runtime: Any, model: Any, **options: Any) -> Any: ...
    def runtime(self, device: str | None = None, **options: Any) -> Any: ...
    async def run(self, runner: Any, inputs: Any) -> list[Any]: ...
    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]: ...
    async def submit(self, submitter: Any, inputs: Any, context: Any = None) -> None: ...
    async def recv(self, receiver: Any) -> tuple[Any, list[Any]]: ...
    async def everything(self, receiver: Any) -> list[tuple[Any, list[Any]]]: ...
    async def close(self, closable: Any) -> bool: ...


class AsyncTwin:
    async def create_runner(self, model: Any, **options: Any) -> Any:
        return await furiosa.runtime.create_runner(model, **options)

    async def create_queue(self, model: Any, **options: Any) -> Any:
        return await furiosa.runtime.create_queue(model, **options)

    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await runtime.create_runner(model, **options)

    async def queue_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await runtime.create_queue(model, **options)

    def runtime(self, device: str | None = None, **options: Any) -> Any:
        return furiosa.runtime.Runtime(device, **options)

    async def run(self, runner: Any, inputs: Any) -> list[Any]:
        outputs: list[Any] = await runner.run(inputs)
        return outputs

    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]:
        outputs: list[Any] = await runner.run_with(names, inputs)
        return outputs

    async def submit(self, submitter: Any, inputs: Any, context: Any = None) -> None:
        await submitter.submit(inputs, context)

    async def recv(self, receiver: Any) -> tuple[Any, list[Any]]:
        received: tuple[Any, list[Any]] = await receiver.recv()
        return received

    async def everything(self, receiver: Any) -> list[tuple[Any, list[Any]]]:
        return [received async for received in receiver]

    async def close(self, closable: Any) -> bool:
        closed: bool = await closable.close()
        return closed


class TrioTwin(AsyncTwin):
    """Every call in trio, which runs in a thread of its own."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def there(*args: Any, **options: Any) -> Any:
            call = functools.partial(found, *args, **options)
            return await _in_thread(trio.from_thread.run, call, trio_token=self._token)

        return there

    def runtime(self, device: str | None = None, **options: Any) -> Any:
        make = functools.partial(super().runtime, device, **options)
        return trio.from_thread.run_sync(make, trio_token=self._token)


@contextmanager
def trio_twin() -> Iterator[TrioTwin]:
    tokens: SimpleQueue[trio.lowlevel.TrioToken] = SimpleQueue()
    stop = trio.Event()

    async def serve() -> None:
        tokens.put(trio.lowlevel.current_trio_token())
        await stop.wait()

    thread = threading.Thread(target=trio.run, args=(serve,), name="trio")
    thread.start()
    token = tokens.get()
    yield TrioTwin(token)
    token.run_sync_soon(stop.set)
    thread.join()


TWINS = ("async", "trio", "sync")


@contextmanager
def twin_of(name: str) -> Iterator[Twin]:
    """One of TWINS."""
    if name == "trio":
        with trio_twin() as twin:
            yield twin
    else:
        yield AsyncTwin() if name == "async" else SyncTwin()


class SyncTwin:
    """Every call in a thread of its own, as callers of the blocking style would have it."""

    async def create_runner(self, model: Any, **options: Any) -> Any:
        return await _in_thread(furiosa.runtime.sync.create_runner, model, **options)

    async def create_queue(self, model: Any, **options: Any) -> Any:
        return await _in_thread(furiosa.runtime.sync.create_queue, model, **options)

    async def runner_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await _in_thread(runtime.create_runner, model, **options)

    async def queue_of(self, runtime: Any, model: Any, **options: Any) -> Any:
        return await _in_thread(runtime.create_queue, model, **options)

    def runtime(self, device: str | None = None, **options: Any) -> Any:
        return furiosa.runtime.sync.Runtime(device, **options)

    async def run(self, runner: Any, inputs: Any) -> list[Any]:
        outputs: list[Any] = await _in_thread(runner.run, inputs)
        return outputs

    async def run_with(
        self, runner: Any, names: Sequence[str], inputs: Mapping[str, Any]
    ) -> list[Any]:
        outputs: list[Any] = await _in_thread(runner.run_with, names, inputs)
        return outputs

    async def submit(self, submitter: Any, inputs: Any, context: Any = None) -> None:
        await _in_thread(submitter.submit, inputs, context)

    async def recv(self, receiver: Any) -> tuple[Any, list[Any]]:
        return await _in_thread(receiver.recv)

    async def everything(self, receiver: Any) -> list[tuple[Any, list[Any]]]:
        return await _in_thread(list, receiver)

    async def close(self, closable: Any) -> bool:
        closed: bool = await _in_thread(closable.close)
        return closed


async def _in_thread(function: Callable[..., _T], *args: Any, **options: Any) -> _T:
    return await anyio.to_thread.run_sync(functools.partial(function, *args, **options))
