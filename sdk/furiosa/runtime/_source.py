"""From what the caller calls a model to the ENF bytes that go to the device. May read files; blocks."""

import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsBytes, TypeAlias

from furiosa.common.model_limits import ENF_MAGIC, MAX_MODEL_BYTES
from furiosa.runtime._core.errors import (
    CompilationFailed,
    FuriosaRuntimeError,
    InvalidCompilerConfig,
)

if TYPE_CHECKING:
    from furiosa.tools.compiler.cache import Results

_log = logging.getLogger(__name__)


ModelSource: TypeAlias = str | os.PathLike[str] | SupportsBytes | bytearray


def enf_of(
    model: ModelSource,
    target: str,
    batch_size: int | None,
    compiler_config: Mapping[str, object] | None,
    *,
    hint: Callable[[str], object] | None = None,
) -> bytes:
    """An executable for `target`: the model itself when it is one, else compiled from it.

    `batch_size` and `compiler_config` are for models yet to be compiled; an ENF has its own. What was
    compiled before comes from the compiler cache, whose troubles are warnings in the log; not with a
    `hint`, which gets each operator that the NPU cannot run.
    Raises: FuriosaRuntimeError; TypeError, ValueError for arguments of the wrong kind.
    """
    _check_batch_size(batch_size)
    config = {} if compiler_config is None else compiler_config
    _check_config(config)
    data, label = _read(model)
    if data.startswith(ENF_MAGIC):
        if batch_size not in (None, 1):
            raise FuriosaRuntimeError(
                f"{label} is compiled already: batch_size {batch_size} cannot be applied to it"
            )
        if config:
            raise FuriosaRuntimeError(
                f"{label} is compiled already: compiler_config {dict(config)} cannot be applied to it"
            )
        return data
    path = model if isinstance(model, (str, os.PathLike)) else None
    return _compiled(data, path, label, target, batch_size or 1, config, hint)


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is None:
        return
    if not isinstance(batch_size, int) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size: expected an int, found {type(batch_size).__name__}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, found {batch_size}")


def _read(model: ModelSource) -> tuple[bytes, str]:
    """The bytes and what to call them in messages. A path is looked for first: it may have __bytes__."""
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        label = f"model {path}"
        try:
            data = _file(path, label)
        except OSError as error:
            raise FuriosaRuntimeError(f"cannot read {label}: {error.strerror}") from error
        except ValueError as error:  # no path at all: NUL, half of a surrogate pair
            raise ValueError(f"model: {str(path)!r} cannot be a path: {error}") from None
    elif isinstance(model, (bytearray, SupportsBytes)):
        data = bytes(model)
        label = f"model of {len(data)} bytes"
    else:
        raise TypeError(f"model: expected a path or bytes, found {type(model).__name__}")
    if not data:
        raise FuriosaRuntimeError(f"{label} is empty")
    return data, label


def _file(path: Path, label: str) -> bytes:
    """Bounded, and of regular files only: a device would never end, a pipe might never begin.

    Raises: FuriosaRuntimeError; OSError, ValueError.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FuriosaRuntimeError(f"cannot read {label}: it is no regular file")
        if status.st_size > MAX_MODEL_BYTES:
            raise FuriosaRuntimeError(
                f"cannot read {label}: it has {status.st_size} bytes, at most {MAX_MODEL_BYTES}"
            )
        return file.read(MAX_MODEL_BYTES)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _compiled(
    data: bytes,
    path: str | os.PathLike[str] | None,
    label: str,
    target: str,
    batch_size: int,
    config: Mapping[str, object],
    hint: Callable[[str], object] | None,
) -> bytes:
    # Here, because whoever runs an ENF must not pay for the import of a compiler.
    from furiosa.compiler import CompileError, CompilerConfig, CompilerOptions, InvalidConfig
    from furiosa.runtime._compilation import Compilation
    from furiosa.tools.compiler.cache import compile_cached
    from furiosa.tools.compiler.models import read_model

    def refused(error: CompileError, log: str | None = None) -> FuriosaRuntimeError:
        text = f"cannot compile {label}: {error} (native error code: {error.code})"
        if isinstance(error, InvalidConfig):
            return InvalidCompilerConfig(text)
        failure = CompilationFailed(text)
        failure.log = log
        return failure

    try:
        chosen = CompilerConfig.from_mapping(config)
        options = CompilerOptions(target=target, batch_size=batch_size, config=chosen)
    except CompileError as error:
        raise refused(error) from error
    compilation = Compilation(path, len(data), options)
    try:
        with compilation:
            whole = data if path is None else read_model(path)  # it may have tensors in other files
            enf = compile_cached(
                whole,
                options,
                compilation,
                results=_results(),
                is_reused=hint is None,
                instruments=(compilation,),
            )
    except CompileError as error:
        raise refused(error, compilation.log_path) from error
    except OSError as error:
        raise FuriosaRuntimeError(f"cannot read {label}: {error.strerror}") from error
    if hint is not None:
        for operator in dict.fromkeys(compilation.host_operators):
            hint(operator)
    return enf


def _results() -> "Results | None":
    """The compiler cache that the environment names. One that it names wrongly is no reason to fail."""
    from furiosa.compiler import InvalidConfig
    from furiosa.tools.compiler.cache import open_results

    try:
        return open_results(os.environ)
    except InvalidConfig as error:
        _log.warning("the compiler cache is not used: %s", error)
        return None


def _check_config(config: Mapping[str, object]) -> None:
    if not isinstance(config, Mapping):
        raise TypeError(f"compiler_config: expected a dict, found {type(config).__name__}")
