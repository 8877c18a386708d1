"""The inferences of one model while somebody records them."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from furiosa.enf import read
from furiosa.enf.spans import Span as Row
from furiosa.enf.spans import spans
from furiosa.runtime._async import io
from furiosa.runtime._async.loaded_model import LoadedModel
from furiosa.runtime._core import recording
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.recording import Sampling, Timed
from furiosa.runtime._core.spans import Inference
from furiosa.runtime._core.stats import Stats

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


class Profiled:
    """Records calls of `plain`, and has some of them measured in steps, by a traced twin of it.

    The twin is loaded with the first inference, and where it cannot be, inferences are recorded as a
    whole. It ends with the lease, or by `close`.
    """

    def __init__(self, plain: LoadedModel) -> None:
        self._plain = plain
        self._twin: LoadedModel | None = None
        self._rows: tuple[Row, ...] = ()
        self._refused = False
        self._sampling = Sampling()
        self._loading = io.lock()

    async def infer(self, arrays: Sequence[Array], wanted: Sequence[int]) -> list[Array]:
        """As `LoadedModel.infer`."""
        twin = await self._traced() if self._sampling.next() else None
        timed = Timed()
        if twin is None:
            outputs = await self._plain.infer(arrays, wanted, timed)
            self._record(timed, (), ())
            return outputs
        last = len(self._plain.outputs.all)  # where its further output is
        *outputs, times = await twin.infer(arrays, (*wanted, last), timed)
        self._record(timed, self._rows, times.tolist())
        return outputs

    def stats(self) -> Stats:
        """Of the inferences that the twin made."""
        return Stats() if self._twin is None else self._twin.stats()

    async def close(self) -> None:
        if self._twin is not None:
            await self._twin.close(unload=True)

    async def _traced(self) -> LoadedModel | None:
        async with self._loading:
            if self._twin is None and not self._refused:
                await self._load()
            return self._twin

    async def _load(self) -> None:
        self._rows = await io.in_thread(lambda: tuple(spans(read(self._plain.enf))))
        twin = self._plain.traced()
        try:
            await twin.load()
        except FuriosaRuntimeError as error:
            _log.warning(
                "operators are not measured, executions are recorded as a whole: %s", error
            )
            self._refused = True
            return
        self._twin = twin

    def _record(self, timed: Timed, rows: Sequence[Row], times: Sequence[Sequence[int]]) -> None:
        completion = timed.completion
        recording.add(
            Inference(
                parent=recording.around.get(),
                thread_id=threading.get_native_id(),
                device=timed.device,
                begun=timed.begun,
                submitted=timed.submitted,
                started=completion.started_ns,
                task_ns=completion.task_ns,
                ended=timed.ended,
                rows=rows,
                times=times,
            )
        )
