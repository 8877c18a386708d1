"""Every error and warning of the runtime.

    FuriosaRuntimeError
    ├── CompilationFailed          14   the compiler refused the model; its text says why
    ├── DeviceBusy                 23   the device is there and somebody else holds it
    ├── IncompatibleModel          13   an ENF that this device or version cannot run
    ├── InvalidCompilerConfig      30   a key or value of `compiler_config`, or the batch size
    ├── SessionClosed                   used after its close()
    ├── SessionTerminated          22   it ended without its owner's doing: lease revoked, broker gone
    ├── TensorNameNotFound         24   also a ValueError
    │   of the deprecated session API only:
    ├── InternalError              15   what has no class of its own
    ├── InvalidInput                    also a ValueError or a TypeError, as current calls raise
    ├── InvalidSessionOption       21   also a ValueError
    ├── QueueWaitTimeout           11   current calls raise TimeoutError
    ├── UnsupportedDataType             also a ValueError
    ├── UnsupportedTensorType       7   also a TypeError
    │   never raised, for programs that catch them:
    ├── ApiClientInitFailed        18   there is no server to compile
    ├── IncompatibleApiClientError 17
    ├── InvalidYamlException       16   a configuration is a dict
    ├── NoApiKeyException          19
    └── UnsupportedFeature         25
    FuriosaRuntimeWarning

`code` and `message` are those of the legacy runtime; without arguments an error has the published text
made of them. Source: runtime reference 7, which has TensorNameNotFound both as kept and as legacy only: it is
kept here.
"""

from typing import ClassVar


class FuriosaRuntimeError(Exception):
    """Base of the tree; raised itself where no subclass fits.

    `context`: that of the submission which failed, when a receiver raises it.
    """

    code: ClassVar[int | None] = None
    message: ClassVar[str] = ""
    context: object = None

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or self._published()))

    @classmethod
    def _published(cls) -> tuple[str, ...]:
        if cls.code is None:
            return (cls.message,) if cls.message else ()
        return (f"{cls.message} (native error code: {cls.code})",)


class ApiClientInitFailed(FuriosaRuntimeError):
    code = 18
    message = "fail to initialize API client"


class CompilationFailed(FuriosaRuntimeError):
    """`log`: the file with what the compiler reported, if there is one."""

    code = 14
    message = "fail to compile a given model to NPU binary"
    log: str | None = None


class DeviceBusy(FuriosaRuntimeError):
    code = 23
    message = "NPU device busy"


class IncompatibleApiClientError(FuriosaRuntimeError):
    code = 17
    message = "incompatible client with Furiosa API server"


class IncompatibleModel(FuriosaRuntimeError):
    code = 13
    message = "model binary is not compatible"


class InternalError(FuriosaRuntimeError):
    """Its text is its cause."""

    code = 15
    message = "unknown"


class InvalidCompilerConfig(FuriosaRuntimeError):
    code = 30
    message = "Invalid compiler config"


class InvalidInput(FuriosaRuntimeError):
    message = "Invalid input tensors"


class InvalidSessionOption(FuriosaRuntimeError, ValueError):
    code = 21
    message = "invalid options passed to session.create() or create_async()"


class InvalidYamlException(FuriosaRuntimeError):
    code = 16
    message = "compiler config is not valid YAML"


class NoApiKeyException(FuriosaRuntimeError):
    code = 19
    message = "no API keys. Please check your API keys."


class QueueWaitTimeout(FuriosaRuntimeError):
    code = 11
    message = "queue waiting timed out"


class SessionClosed(FuriosaRuntimeError):
    message = "Session or AsyncSession is already closed. Please create a new session."


class SessionTerminated(FuriosaRuntimeError):
    code = 22
    message = "Session or AsyncSession terminated"


class TensorNameNotFound(FuriosaRuntimeError, ValueError):
    code = 24
    message = "Tensor name not found"


class UnsupportedDataType(FuriosaRuntimeError, ValueError):
    message = "unknown data type"


class UnsupportedFeature(FuriosaRuntimeError):
    code = 25
    message = "Unsupported feature"


class UnsupportedTensorType(FuriosaRuntimeError, TypeError):
    code = 7
    message = "numpy.ndarray, TensorArray are only supported"


class FuriosaRuntimeWarning(RuntimeWarning):
    pass
