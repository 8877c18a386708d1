"""Error classes by their older module; `furiosa.runtime` has the base class. Deprecated, as upstream."""

import warnings

from furiosa.runtime._core.errors import (
    DeviceBusy,
    FuriosaRuntimeError,
    InvalidInput,
    QueueWaitTimeout,
    SessionClosed,
    SessionTerminated,
)

warnings.warn(
    "'furiosa.runtime.errors' module is deprecated and will be removed in a future release.",
    FutureWarning,
    stacklevel=2,
)

NativeException = FuriosaRuntimeError

__all__ = [
    "DeviceBusy",
    "FuriosaRuntimeError",
    "InvalidInput",
    "NativeException",
    "QueueWaitTimeout",
    "SessionClosed",
    "SessionTerminated",
]
