"""What `create_runner` returns."""

import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from furiosa.runtime._async import io
from furiosa.runtime._async.loaded_model import CLOSE_SECONDS, LoadedModel
from furiosa.runtime._core import recording
from furiosa.runtime._core.describe import Model
from furiosa.runtime._core.errors import FuriosaRuntimeWarning
from furiosa.runtime._core.stats import Stats
from furiosa.runtime._core.validate import Tensor, TensorArray

if TYPE_CHECKING:
    from furiosa.runtime._async.profiled import Profiled
    from furiosa.runtime._async.runtime import Runtime

Array = npt.NDArray[Any]


class Runner:
    """A model on leased devices, ready to run; any number of calls may be active at once.

    When a worker process behind a device dies, the calls in flight raise FuriosaRuntimeError and the
    next one loads the model anew; likewise when the broker goes, see `on_broker_restart` of `Runtime`.
    When the lease has ended, every call raises SessionTerminated. A runner that nobody holds any more is
    closed.
    """

    def __init__(self, loaded: LoadedModel, runtime: "Runtime | None") -> None:
        """For `create_runner`. `runtime`: the one that was made for this runner and ends with it."""
        self._loaded = loaded
        self._runtime = runtime
        self._profiled: Profiled | None = None  # since somebody recorded
        self._home = io.Home()

    @property
    def model(self) -> Model:
        return self._loaded.model

    async def run(self, inputs: TensorArray) -> list[Array]:
        """Run one inference: one array for each input, in program order; the outputs likewise.

        Shapes and dtypes: exactly those of `model.inputs()`, in any memory layout. A model with one
        input also takes the bare array.
        Owns: the outputs are yours, for as long as you like. Those of 128 KiB and more together may lie
        in memory shared with the device, which has room for `worker_num` such results per device; the
        room is free again when the last array or view of a result is gone, and until then further
        results are copies. Arrays from `allocate` are read where they are: leave them alone until the
        call returns. Others are copied first.
        Raises: TypeError, ValueError, before anything is sent; SessionClosed, SessionTerminated,
        FuriosaRuntimeError.
        """
        loaded = self._loaded
        return await self._infer(loaded.inputs.ordered(inputs), loaded.outputs.all)

    async def run_with(
        self, output_names: Sequence[str], inputs: Mapping[str, Tensor]
    ) -> list[Array]:
        """As `run`, with all inputs by name and only the named outputs, in the order asked for."""
        loaded = self._loaded
        wanted = loaded.outputs.chosen(output_names)
        return await self._infer(loaded.inputs.named(inputs), wanted)

    def allocate(self) -> list[Array]:
        """Input arrays, content unspecified, that `run` need not copy.

        They lie in memory shared with the device, which has room for `worker_num` sets per device; the
        room is free again when the arrays are gone. Beyond that: ordinary arrays.
        Raises: SessionClosed, SessionTerminated.
        """
        self._home.check("runner")
        return self._loaded.allocate()

    def stats(self) -> Stats:
        """What its runs came to so far; also after `close`."""
        self._home.check("runner")
        stats = self._loaded.stats()
        return stats + self._profiled.stats() if self._profiled is not None else stats

    async def close(self) -> bool:
        """Give the model's memory back, and the devices when they were leased for this runner.

        New calls are refused from now on; those in flight have ten seconds to finish, then they raise
        SessionClosed and the result is False. Twice is once.
        """
        if not self._home.is_this:
            return True  # it is the parent's
        if self._runtime is not None:
            return await self._runtime.close()
        try:
            return await self._loaded.close(unload=True)
        finally:
            if self._profiled is not None:
                await self._profiled.close()

    async def _infer(self, arrays: Sequence[Array], wanted: Sequence[int]) -> list[Array]:
        self._home.check_in("runner")
        if recording.active:
            return await self._recorded(arrays, wanted)
        return await self._loaded.infer(arrays, wanted)

    async def _recorded(self, arrays: Sequence[Array], wanted: Sequence[int]) -> list[Array]:
        if self._profiled is None:
            from furiosa.runtime._async.profiled import (
                Profiled,
            )  # only who records needs what it reads

            self._profiled = self._profiled or Profiled(self._loaded)
        return await self._profiled.infer(arrays, wanted)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        warn_if_late(await self.close())


def warn_if_late(in_time: bool) -> None:
    if not in_time:
        warnings.warn(
            f"closing took longer than {CLOSE_SECONDS:g} s; the calls in flight were given up",
            FuriosaRuntimeWarning,
            stacklevel=3,
        )
