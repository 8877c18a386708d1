"""Devices to run models on, and the functions that need none named."""

import logging
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from furiosa.common.views import LeaseView
from furiosa.runtime._async import io
from furiosa.runtime._async.claim import Claim
from furiosa.runtime._async.holding import Holding
from furiosa.runtime._async.loaded_model import LoadedModel
from furiosa.runtime._async.queue import Ends, open_queue
from furiosa.runtime._async.runner import Runner, warn_if_late
from furiosa.runtime._core.arguments import (
    RestartPolicy,
    checked_policy,
    checked_queue_size,
    checked_seconds,
)
from furiosa.runtime._core.places import checked_workers
from furiosa.runtime._core.process import Process
from furiosa.runtime._core.selection import (
    OLD_VARIABLE,
    OLD_VARIABLE_WARNING,
    device_text,
    parse,
    target_of,
)
from furiosa.runtime._source import ModelSource, enf_of

_log = logging.getLogger(__name__)


class Runtime:
    """The lease of one or more devices, and the scope of the runners and queues made with it.

    `device`: a specification such as "warboy(2)*1" or "npu:0:0,npu:0:1"; without one FURIOSA_DEVICES,
    then NPU_DEVNAME, then "warboy(2)*1". The devices are leased on entering, or with the first runner or
    queue. `wait`: for how many seconds to queue for devices that others hold, math.inf for as long as it
    takes; without it that is DeviceBusy at once, with it when the time is over. A wait ends early by
    cancellation, Ctrl-C or `close`, and leaves no lease. `on_broker_restart`: when the broker goes and
    comes back, "resume" goes on with the same lease, or with a new one of the same devices; calls that
    were in flight raise FuriosaRuntimeError, and later ones wait up to a minute for the broker. With
    "raise" all raise SessionTerminated. `time_to_live`: in seconds; the lease ends so long after it was
    granted or renewed last, see `renew`. Without it, it ends with `close` or the process.
    Raises: FuriosaRuntimeError when the text does not follow the grammar; TypeError, ValueError for a
    wait that is no time, and for another policy.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        wait: float | None = None,
        on_broker_restart: RestartPolicy = "resume",
        time_to_live: float | None = None,
    ) -> None:
        text, source = device_text(device, os.environ)
        if source == OLD_VARIABLE:
            _log.warning(OLD_VARIABLE_WARNING)
        spec = parse(text, source)
        self._target = target_of(spec)
        policy = checked_policy("on_broker_restart", on_broker_restart)
        lifetime = checked_seconds("time_to_live", time_to_live)
        self._holding = Holding(Claim(spec, checked_seconds("wait", wait), lifetime), policy)
        self._process = Process()

    @property
    def devices(self) -> tuple[str, ...]:
        """The leased device files, e.g. "npu0pe0-1"; none before they are leased and after `close`."""
        return tuple(map(str, self._holding.leased))

    @property
    def lease(self) -> LeaseView | None:
        """The lease as it is known here: what has arrived is heard, the broker is not asked.

        DETACHED: the broker has gone, and the next call resumes it. RECALLED: it will be taken away at
        `ends_at`. ENDED: it is over. `cause` says why. None before there is one and after `close`.
        """
        self._process.check("runtime")
        return self._holding.lease

    async def renew(self, time_to_live: float | None = None) -> LeaseView:
        """Start the lease's time to live anew, as long as before or so many seconds; the lease afterwards.

        Takes the lease if there was none yet.
        Raises: FuriosaRuntimeError (DeviceBusy, SessionClosed, SessionTerminated); TypeError, ValueError.
        """
        self._process.check("runtime")
        return await self._holding.renew(checked_seconds("time_to_live", time_to_live))

    @io.opening
    async def create_runner(
        self,
        model: ModelSource,
        *,
        worker_num: int | None = None,
        batch_size: int | None = None,
        compiler_config: Mapping[str, object] | None = None,
    ) -> Runner:
        """Load a model on every device of this runtime.

        `model`: path or bytes of an ONNX model, which is compiled, or of an ENF. `worker_num`: runs in
        flight on each device. `batch_size` multiplies dimension 0 of all inputs and outputs, of models
        that are yet to be compiled.
        Raises: FuriosaRuntimeError (DeviceBusy, SessionClosed) with nothing left behind; TypeError,
        ValueError for arguments of the wrong kind.
        """
        return Runner(await self._loaded(model, worker_num, batch_size, compiler_config), None)

    @io.opening
    async def create_queue(
        self,
        model: ModelSource,
        *,
        worker_num: int | None = None,
        batch_size: int | None = None,
        input_queue_size: int | None = None,
        output_queue_size: int | None = None,
        compiler_config: Mapping[str, object] | None = None,
    ) -> Ends:
        """Load a model as `create_runner` does, to be used through a submitter and a receiver.

        `input_queue_size`: inferences that wait to run; further `submit` calls wait. `output_queue_size`:
        results that nobody has received yet; then nothing more runs. Both are 64 if not given.
        Raises: as `create_runner`.
        """
        sizes = _queue_sizes(input_queue_size, output_queue_size)
        loaded = await self._loaded(model, worker_num, batch_size, compiler_config)
        return await open_queue(Runner(loaded, None), sizes)

    async def close(self) -> bool:
        """Close all runners and queues, see `Runner.close`, then give the devices back. Twice is once."""
        if not self._process.is_this:
            return True  # it is the parent's
        return await self._holding.close()

    async def __aenter__(self) -> Self:
        self._process.check("runtime")
        await self._holding.tenure(self._holding.check)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        warn_if_late(await self.close())

    async def _loaded(
        self,
        model: ModelSource,
        worker_num: int | None,
        batch_size: int | None,
        compiler_config: Mapping[str, object] | None,
    ) -> LoadedModel:
        self._process.check("runtime")
        self._holding.check()
        workers = checked_workers(worker_num)
        enf = await io.in_thread(lambda: enf_of(model, self._target, batch_size, compiler_config))
        await self._holding.tenure(self._holding.check)
        loaded = LoadedModel(self._holding, enf, workers)
        await loaded.load()
        return loaded


@io.opening
async def create_runner(
    model: ModelSource,
    *,
    device: str | None = None,
    wait: float | None = None,
    on_broker_restart: RestartPolicy = "resume",
    worker_num: int | None = None,
    batch_size: int | None = None,
    compiler_config: Mapping[str, object] | None = None,
) -> Runner:
    """Lease devices and load a model on them; both end with the runner.

    `device`, `wait` and `on_broker_restart` are as for `Runtime`, everything else as for
    `Runtime.create_runner`.
    """
    runtime = Runtime(device, wait=wait, on_broker_restart=on_broker_restart)
    try:
        loaded = await runtime._loaded(model, worker_num, batch_size, compiler_config)
    except BaseException:
        await runtime.close()
        raise
    return Runner(loaded, runtime)


@io.opening
async def create_queue(
    model: ModelSource,
    *,
    device: str | None = None,
    wait: float | None = None,
    on_broker_restart: RestartPolicy = "resume",
    worker_num: int | None = None,
    batch_size: int | None = None,
    input_queue_size: int | None = None,
    output_queue_size: int | None = None,
    compiler_config: Mapping[str, object] | None = None,
) -> Ends:
    """Lease devices and load a model on them; both end with the receiver.

    `device`, `wait` and `on_broker_restart` are as for `Runtime`, everything else as for
    `Runtime.create_queue`.
    """
    sizes = _queue_sizes(input_queue_size, output_queue_size)
    runtime = Runtime(device, wait=wait, on_broker_restart=on_broker_restart)
    try:
        loaded = await runtime._loaded(model, worker_num, batch_size, compiler_config)
    except BaseException:
        await runtime.close()
        raise
    return await open_queue(Runner(loaded, runtime), sizes)


def _queue_sizes(input_size: int | None, output_size: int | None) -> tuple[int, int]:
    return (
        checked_queue_size("input_queue_size", input_size),
        checked_queue_size("output_queue_size", output_size),
    )
