"""Error classes by their older module; `furiosa.runtime` has the base class. Deprecated, as upstream."""

from furiosa.runtime._core.errors import (
    ApiClientInitFailed,
    CompilationFailed,
    DeviceBusy,
    FuriosaRuntimeError,
    IncompatibleApiClientError,
    IncompatibleModel,
    InternalError,
    InvalidCompilerConfig,
    InvalidInput,
    InvalidSessionOption,
    InvalidYamlException,
    NoApiKeyException,
    QueueWaitTimeout,
    SessionClosed,
    SessionTerminated,
    TensorNameNotFound,
    UnsupportedDataType,
    UnsupportedFeature,
    UnsupportedTensorType,
)
from furiosa.runtime._deprecated import warn_of_module

warn_of_module(__name__)

NativeException = FuriosaRuntimeError

__all__ = [
    "ApiClientInitFailed",
    "CompilationFailed",
    "DeviceBusy",
    "FuriosaRuntimeError",
    "IncompatibleApiClientError",
    "IncompatibleModel",
    "InternalError",
    "InvalidCompilerConfig",
    "InvalidInput",
    "InvalidSessionOption",
    "InvalidYamlException",
    "NativeException",
    "NoApiKeyException",
    "QueueWaitTimeout",
    "SessionClosed",
    "SessionTerminated",
    "TensorNameNotFound",
    "UnsupportedDataType",
    "UnsupportedFeature",
    "UnsupportedTensorType",
]
