"""The blocking API before SDK 0.10: `create` for `furiosa.runtime.sync.create_runner`, `create_async` for its
`create_queue`. Deprecated, as upstream.

    with session.create("digits_int8.onnx") as sess:
        outputs = sess.run(image)

Source: runtime reference 8.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from furiosa.runtime import sync
from furiosa.runtime._core.arguments import MAX_QUEUE_SIZE
from furiosa.runtime._core.errors import CompilationFailed, SessionClosed
from furiosa.runtime._core.selection import device_text, parse, target_of
from furiosa.runtime._core.validate import Tensor
from furiosa.runtime._core.validate import TensorArray as Tensors
from furiosa.runtime._deprecated import warn_of_module, warn_of_use
from furiosa.runtime._environment import LEGACY_DEVICE
from furiosa.runtime._legacy import inputs as checked
from furiosa.runtime._legacy.arguments import positional_too
from furiosa.runtime._legacy.dump import information_dump
from furiosa.runtime._legacy.model import Model
from furiosa.runtime._legacy.tensor import TensorArray
from furiosa.runtime._legacy.translate import (
    WrongType,
    WrongValue,
    translated,
    translated_options,
)
from furiosa.runtime._source import ModelSource, enf_of

__all__ = ["AsyncSession", "CompletionQueue", "Session", "create", "create_async"]

warn_of_module(__name__)

QUEUE_SIZE: Final = MAX_QUEUE_SIZE  # the legacy queues had no bounds
_T = TypeVar("_T")


class _Member(Generic[_T]):
    """A member of a session's model on the session itself, until that is closed; deprecated."""

    def __init__(self, of: Callable[[Model], _T]) -> None:
        self._of = of
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, session: None, owner: type) -> Self: ...
    @overload
    def __get__(self, session: "_Described", owner: type) -> _T: ...
    def __get__(self, session: "_Described | None", owner: type) -> Self | _T:
        if session is None:
            return self
        if session._closed:
            raise SessionClosed
        warn_of_use(f"'{owner.__name__}.{self._name}'", f"'{owner.__name__}.model.{self._name}'")
        return self._of(session.model)


class _Described:
    """What Session and AsyncSession have in common: a model, its members, an end."""

    def __init__(self, model: sync.Model, close: Callable[[], bool]) -> None:
        self.model: Final = Model.of(model)
        self._close = close
        self._closed = False

    input_num = _Member(lambda model: model.input_num)
    output_num = _Member(lambda model: model.output_num)
    input = _Member(lambda model: model.input)
    inputs = _Member(lambda model: model.inputs)
    output = _Member(lambda model: model.output)
    outputs = _Member(lambda model: model.outputs)
    summary = _Member(lambda model: model.summary)
    print_summary = _Member(lambda model: model.print_summary)
    allocate_inputs = _Member(lambda model: model.allocate_inputs)
    create_inputs = _Member(lambda model: model.create_inputs)
    allocate_outputs = _Member(lambda model: model.allocate_outputs)
    create_outputs = _Member(lambda model: model.create_outputs)
    allocate_tensors = _Member(lambda model: model.allocate_tensors)
    create_tensors = _Member(lambda model: model.create_tensors)

    def close(self) -> bool:
        """As `close` of what it stands for. Twice is once."""
        self._closed = True
        return self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Session(_Described):
    """A runner. What `create` returns."""

    def __init__(self, runner: sync.Runner) -> None:
        super().__init__(runner.model, runner.close)
        self._runner = runner

    def run(self, inputs: Tensors) -> TensorArray:
        """As `Runner.run`, with copies of the inputs unless they are a TensorArray.

        Raises: InvalidInput, UnsupportedTensorType; SessionClosed, SessionTerminated, FuriosaRuntimeError.
        """
        arrays = checked.ordered(inputs, self.model.inputs())
        with translated():
            return TensorArray.of(self._runner.run(arrays))

    def run_with(self, outputs: Sequence[str], inputs: Mapping[str, Tensor]) -> TensorArray:
        """As `Runner.run_with`, with copies. Raises: as `run`, and TensorNameNotFound."""
        if not outputs:
            raise (WrongType if outputs is None else WrongValue)("outputs must be given")
        arrays = checked.named(inputs, self.model.inputs())
        with translated():
            return TensorArray.of(self._runner.run_with(outputs, arrays))


class AsyncSession(_Described):
    """Where inferences are put in. What `create_async` returns first."""

    def __init__(self, submitter: sync.Submitter) -> None:
        super().__init__(submitter.model, submitter.close)
        self._submitter = submitter

    def submit(self, inputs: Tensors, context: object = None) -> None:
        """As `Submitter.submit`, with copies of the inputs unless they are a TensorArray.

        Raises: as `Session.run`.
        """
        arrays = checked.ordered(inputs, self.model.inputs())
        with translated():
            self._submitter.submit(arrays, context)


class CompletionQueue:
    """Where results come out; iterating ends where `recv` would say that there are none any more."""

    def __init__(self, receiver: sync.Receiver) -> None:
        self._receiver = receiver

    def recv(self, timeout: int | None = None) -> tuple[Any, TensorArray]:
        """The context and the outputs of the next result. `timeout` is in milliseconds.

        Raises: QueueWaitTimeout; SessionTerminated, when the session is closed and everything was
        received; SessionClosed, after `close`; RuntimeError for a negative timeout; FuriosaRuntimeError.
        """
        seconds = None
        if timeout is not None:
            seconds = _milliseconds(timeout) / 1000
            warn_of_use("a timeout in milliseconds", "Receiver.recv(), which takes seconds")
        with translated():
            context, outputs = self._receiver.recv(seconds)
        return context, TensorArray.of(outputs)

    def close(self) -> bool:
        """As `Receiver.close`."""
        return self._receiver.close()

    def __iter__(self) -> Iterator[tuple[Any, TensorArray]]:
        return self

    def __next__(self) -> tuple[Any, TensorArray]:
        with translated():
            context, outputs = next(self._receiver)
        return context, TensorArray.of(outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@positional_too
def create(
    model: ModelSource,
    *,
    device: str | None = None,
    worker_num: int | None = None,
    batch_size: int | None = None,
    compiler_hints: bool | None = None,
    compiler_config: Mapping[str, object] | None = None,
) -> Session:
    """As `furiosa.runtime.sync.create_runner`, but for the device when none is named: "npu0pe0-1".

    `compiler_hints`: compile the model anew and print each kind of operator that the NPU cannot run.
    Raises: FuriosaRuntimeError (DeviceBusy, CompilationFailed, IncompatibleModel, InvalidCompilerConfig,
    InvalidSessionOption, InternalError); TypeError for arguments of the wrong kind.
    """
    with translated_options():
        chosen, enf = _chosen(model, device, batch_size, compiler_hints, compiler_config)
        return Session(sync.create_runner(enf, device=chosen, worker_num=worker_num))


@positional_too
def create_async(
    model: ModelSource,
    *,
    device: str | None = None,
    worker_num: int | None = None,
    batch_size: int | None = None,
    compiler_hints: bool | None = None,
    input_queue_size: int | None = None,
    output_queue_size: int | None = None,
    compiler_config: Mapping[str, object] | None = None,
) -> tuple[AsyncSession, CompletionQueue]:
    """As `furiosa.runtime.sync.create_queue`, with the differences of `create` and queues of 65536.

    Raises: as `create`.
    """
    with translated_options():
        chosen, enf = _chosen(model, device, batch_size, compiler_hints, compiler_config)
        submitter, receiver = sync.create_queue(
            enf,
            device=chosen,
            worker_num=worker_num,
            input_queue_size=QUEUE_SIZE if input_queue_size is None else input_queue_size,
            output_queue_size=QUEUE_SIZE if output_queue_size is None else output_queue_size,
        )
        return AsyncSession(submitter), CompletionQueue(receiver)


def _chosen(
    model: ModelSource,
    device: str | None,
    batch_size: int | None,
    compiler_hints: bool | None,
    compiler_config: Mapping[str, object] | None,
) -> tuple[str | None, bytes]:
    """The device to ask for, and an executable for it."""
    text, source = device_text(device, os.environ)
    if source == "default":
        text = device = LEGACY_DEVICE
    target = target_of(parse(text, source))
    hint = _Hints().say if compiler_hints else None
    try:
        return device, enf_of(model, target, batch_size, compiler_config, hint=hint)
    except CompilationFailed as failure:
        _say(information_dump(failure))
        raise


class _Hints:
    def __init__(self) -> None:
        self._number = 0

    def say(self, operator: str) -> None:
        self._number += 1
        _say(f"Hint [{self._number}]: '{operator}' cannot be accelerated yet")


def _say(text: str) -> None:
    if sys.stderr is not None:  # a daemon may have none
        print(text, file=sys.stderr)  # noqa: T201 - the legacy API talks


def _milliseconds(timeout: int) -> int:
    if not isinstance(timeout, int) or isinstance(timeout, bool):
        raise TypeError(f"timeout: expected an int of ms, found {type(timeout).__name__}")
    if timeout < 0:
        raise RuntimeError("the timeout duration must be a positive integer")
    return timeout
