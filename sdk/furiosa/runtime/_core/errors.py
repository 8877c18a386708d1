"""Every error and warning of the runtime.

    FuriosaRuntimeError
    ├── DeviceBusy          the device is there and somebody else holds it
    ├── InvalidInput        of the deprecated session API; current calls raise TypeError or ValueError
    ├── QueueWaitTimeout    of the deprecated session API; current calls raise TimeoutError
    ├── SessionClosed       used after its close()
    └── SessionTerminated   it ended without its owner's doing: lease revoked, broker gone
    FuriosaRuntimeWarning

Source: runtime reference 7, the names that stay without the legacy runtime.
"""


class FuriosaRuntimeError(Exception):
    """Base of the tree; raised itself where no subclass fits.

    `context`: that of the submission which failed, when a receiver raises it.
    """

    context: object = None


class DeviceBusy(FuriosaRuntimeError):
    pass


class InvalidInput(FuriosaRuntimeError):
    pass


class QueueWaitTimeout(FuriosaRuntimeError):
    pass


class SessionClosed(FuriosaRuntimeError):
    pass


class SessionTerminated(FuriosaRuntimeError):
    pass


class FuriosaRuntimeWarning(RuntimeWarning):
    pass
