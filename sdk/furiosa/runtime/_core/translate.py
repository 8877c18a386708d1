"""Errors of the broker and the worker, as the runtime's callers know them. One direction, one place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from furiosa.common import errors as broker
from furiosa.common.names import DeviceFile
from furiosa.queuepair import CompletionStatus
from furiosa.runtime._core.errors import (
    DeviceBusy,
    FuriosaRuntimeError,
    IncompatibleModel,
    SessionTerminated,
)

_CLASSES: Final[Mapping[type[broker.FuriosaError], type[FuriosaRuntimeError]]] = {
    broker.DeviceBusy: DeviceBusy,
    broker.InvalidProgram: IncompatibleModel,
    broker.LeaseEnded: SessionTerminated,
    broker.UnsupportedProgram: IncompatibleModel,
}

_FAILED: Final[Mapping[CompletionStatus, str]] = {
    CompletionStatus.UNKNOWN_PROGRAM: "the program is no longer on the device",
    CompletionStatus.BAD_RECORD: "the device refused the request: an offset is outside the queue",
    CompletionStatus.EXECUTION_FAILED: "the inference failed; the broker's log has the reason",
    CompletionStatus.DMA_ERROR: "a DMA error: the inputs did not reach the card; try again",
}


def translate(error: broker.FuriosaError) -> FuriosaRuntimeError:
    """The runtime's class with the same text; its cause is the original."""
    ours = _CLASSES.get(type(error), FuriosaRuntimeError)(str(error))
    ours.__cause__ = error
    return ours


def lost(loss: broker.FuriosaError) -> FuriosaRuntimeError:
    """What to raise for inferences that were in flight when the program was lost."""
    if isinstance(loss, broker.WorkerDied):
        return translate(loss)
    ours = FuriosaRuntimeError(
        f"the broker went away, and it is not known whether this inference was run: {loss}"
    )
    ours.__cause__ = loss
    return ours


def interruption() -> FuriosaRuntimeError:
    return FuriosaRuntimeError("a call was interrupted while it used the queue of the device")


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except broker.FuriosaError as error:
        raise translate(error) from error


def failed_run(status: CompletionStatus, device: DeviceFile) -> FuriosaRuntimeError:
    """What to raise for a completion that is not OK."""
    return FuriosaRuntimeError(f"{device}: {_FAILED[status]}")


def fresh(error: FuriosaRuntimeError) -> FuriosaRuntimeError:
    """Its like, to be raised: several callers cannot share one traceback."""
    again = type(error)(*error.args)
    again.__cause__ = error.__cause__
    return again
