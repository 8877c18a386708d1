"""Every error that crosses a boundary of this project.

    FuriosaError
    ├── BadRequest              the caller must change the request
    │   ├── BadArgument         a field of the request is out of its bounds
    │   ├── BadDeviceFile       not a device file name
    │   ├── BadDeviceSpec       not a device specification
    │   └── InvalidProgram      the ENF reader refused the file
    ├── UnknownDevice           no such device here
    ├── UnknownLease
    ├── UnknownProgram
    ├── DeviceBusy              held by somebody else, also after waiting
    ├── DeviceUnavailable       not fit for use, or cordoned
    ├── LimitExceeded           a configured bound
    ├── RateLimited             asks too often
    ├── NotAllowed              the tenant's policy forbids it
    ├── NoSession               the call needs a session and has none
    ├── NotLeaseOwner           the lease belongs to another process
    ├── LeaseEnded
    ├── UnsupportedProgram      sound, but not for this device or version
    ├── WorkerDied              the process behind a core ended; the lease is still held
    ├── DeviceError             the device failed in one run; it may succeed when tried again
    ├── NotRecorded             the broker cannot write it down, so it does not do it
    ├── BrokerDraining          the broker is shutting down
    ├── BrokerUnavailable       no broker answers at the address
    └── InternalError           a defect of ours

An error carries fields, not only text, and knows nothing of gRPC; `common.status` maps it.
Fields are `str` or `int`, so that each error survives the wire unchanged.
"""

from dataclasses import dataclass, fields
from typing import Any


class FuriosaError(Exception):
    """Base of the tree; `str(error)` is a sentence for people."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]  # every leaf is a dataclass


class BadRequest(FuriosaError):
    """The request cannot be served as it is; sending it again will not help."""


@dataclass(eq=False)
class BadArgument(BadRequest):
    argument: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.argument} is {self.found}, expected {self.expected}"


@dataclass(eq=False)
class BadDeviceFile(BadRequest):
    text: str

    def __str__(self) -> str:
        return (
            f"{self.text!r} is not a device file name: expected npu<card>, npu<card>pe<core> or "
            "npu<card>pe<first>-<last>, e.g. npu0pe0-1"
        )


@dataclass(eq=False)
class BadDeviceSpec(BadRequest):
    """Source of the text: reference of the device library (`Failed to parse given message`)."""

    text: str
    detail: str

    def __str__(self) -> str:
        return f"Failed to parse given message {self.text}: {self.detail}"


@dataclass(eq=False)
class InvalidProgram(BadRequest):
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"not a valid ENF program: {self.detail} (rule {self.rule})"


@dataclass(eq=False)
class UnknownDevice(FuriosaError):
    device: str

    def __str__(self) -> str:
        return f"Device {self.device} not found"


@dataclass(eq=False)
class UnknownLease(FuriosaError):
    lease: str

    def __str__(self) -> str:
        return f"there is no lease {self.lease}"


@dataclass(eq=False)
class UnknownProgram(FuriosaError):
    lease: str
    program: int

    def __str__(self) -> str:
        return f"lease {self.lease} has no program {self.program}"


@dataclass(eq=False)
class DeviceBusy(FuriosaError):
    """`holder_*` describe one process in the way; empty or 0 when there is none to name. With no pid
    `holder_command` says what `holder_device` is kept for.
    """

    device: str
    holder_device: str = ""
    holder_pid: int = 0
    holder_command: str = ""

    def __str__(self) -> str:
        text = f"Device {self.device} found but still in use"
        if self.holder_pid:
            text += (
                f": {self.holder_device} is held by pid {self.holder_pid} ({self.holder_command})"
            )
        elif self.holder_command:
            text += f": {self.holder_device} is {self.holder_command}"
        return text


@dataclass(eq=False)
class DeviceUnavailable(FuriosaError):
    device: str
    reason: str

    def __str__(self) -> str:
        return f"Device {self.device} is not available: {self.reason}"


@dataclass(eq=False)
class LimitExceeded(FuriosaError):
    limit: str
    value: int
    maximum: int

    def __str__(self) -> str:
        return f"{self.limit} is {self.value}, the limit is {self.maximum}"


@dataclass(eq=False)
class RateLimited(FuriosaError):
    tenant: str
    retry_after_ms: int

    def __str__(self) -> str:
        return f"tenant {self.tenant} asks too often; try again in {self.retry_after_ms} ms"


@dataclass(eq=False)
class NotAllowed(FuriosaError):
    tenant: str
    what: str

    def __str__(self) -> str:
        return f"tenant {self.tenant} may not {self.what}"


@dataclass(eq=False)
class NoSession(FuriosaError):
    method: str

    def __str__(self) -> str:
        return f"{self.method} needs a session: connect to the handoff socket first"


@dataclass(eq=False)
class NotLeaseOwner(FuriosaError):
    lease: str
    pid: int

    def __str__(self) -> str:
        return f"lease {self.lease} does not belong to pid {self.pid}"


@dataclass(eq=False)
class LeaseEnded(FuriosaError):
    lease: str
    cause: str

    def __str__(self) -> str:
        return f"lease {self.lease} has ended: {self.cause}"


@dataclass(eq=False)
class UnsupportedProgram(FuriosaError):
    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"the program's {self.what} is {self.found}, this device needs {self.expected}"


@dataclass(eq=False)
class WorkerDied(FuriosaError):
    device: str
    cause: str

    def __str__(self) -> str:
        return f"the worker of {self.device} died ({self.cause}); the lease is still held"


@dataclass(eq=False)
class DeviceError(FuriosaError):
    device: str
    cause: str

    def __str__(self) -> str:
        return f"{self.device}: {self.cause}"


@dataclass(eq=False)
class NotRecorded(FuriosaError):
    cause: str

    def __str__(self) -> str:
        return f"the broker cannot write it down, so it has not been done: {self.cause}"


@dataclass(eq=False)
class BrokerDraining(FuriosaError):
    def __str__(self) -> str:
        return "the broker is shutting down"


@dataclass(eq=False)
class BrokerUnavailable(FuriosaError):
    address: str
    cause: str

    def __str__(self) -> str:
        return f"no broker at {self.address}: {self.cause}"


@dataclass(eq=False)
class InternalError(FuriosaError):
    reference: str

    def __str__(self) -> str:
        return f"internal error {self.reference}; the broker's log has the details"
