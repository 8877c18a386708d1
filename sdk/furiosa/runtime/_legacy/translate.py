"""Errors of the current API as the legacy one raises them: with the published text of their class.

What the current one has to say stays: as the cause, and as a note below the text in tracebacks. Source:
runtime reference 7 and 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.runtime._core import errors
from furiosa.runtime._core.errors import FuriosaRuntimeError, InvalidInput

# subclasses of these, which are private, become the public class
_KEPT: Final = (
    errors.CompilationFailed,
    errors.DeviceBusy,
    errors.IncompatibleModel,
    errors.InvalidCompilerConfig,
    errors.SessionClosed,
    errors.SessionTerminated,
    errors.TensorNameNotFound,
)


class WrongValue(InvalidInput, ValueError):
    """`except ValueError` is what the current API asks for, `except InvalidInput` what the legacy one did."""


class WrongType(InvalidInput, TypeError):
    """Likewise."""


@contextmanager
def translated() -> Iterator[None]:
    """Of calls with tensors: what is wrong with these is InvalidInput."""
    try:
        yield
    except FuriosaRuntimeError as error:
        raise _legacy(error) from error
    except TimeoutError as error:
        raise errors.QueueWaitTimeout from error
    except ValueError as error:
        raise WrongValue(*error.args) from error
    except TypeError as error:
        raise WrongType(*error.args) from error


@contextmanager
def translated_options() -> Iterator[None]:
    """Of calls that create sessions: what is wrong with their options is InvalidSessionOption."""
    try:
        yield
    except FuriosaRuntimeError as error:
        raise _legacy(error) from error
    except ValueError as error:
        ours = errors.InvalidSessionOption()
        ours.add_note(str(error))
        raise ours from error


def _legacy(error: FuriosaRuntimeError) -> FuriosaRuntimeError:
    kept = next((kind for kind in _KEPT if isinstance(error, kind)), None)
    if kept is None:
        ours: FuriosaRuntimeError = errors.InternalError(
            f"{error} (native error code: {errors.InternalError.code})"
        )
    else:
        ours = kept()
        ours.add_note(str(error))
    ours.context = error.context
    return ours


def mismatch(
    shape: tuple[int, ...], dtype: np.dtype[Any], found: npt.NDArray[Any]
) -> InvalidInput | None:
    """What is wrong with an array for a tensor of this kind. Source of the text: runtime reference 8."""
    if found.shape == shape and found.dtype == dtype:
        return None
    kind = WrongType if found.dtype != dtype else WrongValue
    return kind(f"expected {shape} ({dtype}) but got {found.shape} ({found.dtype})")
