"""Errors to status codes and reasons, and back: the only table of its kind.

Codes are gRPC's numbers, but gRPC is not imported here: the handoff socket and the command-line tools
use the same table and must not pay 120 ms for a library they do not need.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

from furiosa.common import errors as e


class Status(IntEnum):
    """The gRPC status codes in use. Source: gRPC, statuscodes.md."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# UNAVAILABLE: send the same call again. ABORTED: redo the whole step. FAILED_PRECONDITION: something
# must change first. Looked up along the class's ancestors.
STATUS: Final[Mapping[type[e.FuriosaError], Status]] = {
    e.BadRequest: Status.INVALID_ARGUMENT,
    e.UnknownDevice: Status.NOT_FOUND,
    e.UnknownLease: Status.NOT_FOUND,
    e.UnknownProgram: Status.NOT_FOUND,
    e.DeviceBusy: Status.RESOURCE_EXHAUSTED,
    e.DeviceUnavailable: Status.UNAVAILABLE,
    e.LimitExceeded: Status.RESOURCE_EXHAUSTED,
    e.RateLimited: Status.RESOURCE_EXHAUSTED,
    e.NotAllowed: Status.PERMISSION_DENIED,
    e.NoSession: Status.UNAUTHENTICATED,
    e.NotLeaseOwner: Status.PERMISSION_DENIED,
    e.LeaseEnded: Status.FAILED_PRECONDITION,
    e.UnsupportedProgram: Status.FAILED_PRECONDITION,
    e.WorkerDied: Status.ABORTED,
    e.DeviceError: Status.UNAVAILABLE,
    e.NotRecorded: Status.UNAVAILABLE,
    e.BrokerDraining: Status.UNAVAILABLE,
    e.BrokerUnavailable: Status.UNAVAILABLE,
    e.InternalError: Status.INTERNAL,
}


def _leaves(cls: type[e.FuriosaError]) -> list[type[e.FuriosaError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [cls]


def reason_of(error: type[e.FuriosaError]) -> str:
    """Machine-readable name, e.g. DEVICE_BUSY for DeviceBusy."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", error.__name__).upper()


_BY_REASON: Final = {reason_of(leaf): leaf for leaf in _leaves(e.FuriosaError)}


@dataclass(frozen=True, slots=True)
class Failed:
    """An error in transit: status code, text, reason and fields."""

    code: int
    message: str
    reason: str
    fields: Mapping[str, str]


def to_failed(error: e.FuriosaError) -> Failed:
    cls = type(error)
    code = next(STATUS[ancestor] for ancestor in cls.__mro__ if ancestor in STATUS)
    values = {f.name: str(getattr(error, f.name)) for f in fields(error)}  # type: ignore[arg-type]  # every leaf is a dataclass
    return Failed(int(code), str(error), reason_of(cls), values)


def from_failed(failed: Failed) -> e.FuriosaError:
    """The error that `to_failed` was given; InternalError for a reason this version does not know."""
    cls = _BY_REASON.get(failed.reason)
    if cls is None:
        return e.InternalError(f"{failed.reason or failed.code}: {failed.message}")
    try:
        values = {
            f.name: int(failed.fields[f.name]) if f.type is int else failed.fields[f.name]
            for f in fields(cls)  # type: ignore[arg-type]  # every leaf is a dataclass
        }
        return cls(**values)
    except (KeyError, ValueError):
        return e.InternalError(f"{failed.reason} without its fields: {failed.message}")
