"""Why a request was refused, or waits: the table's word as an error, and as a sentence for people."""

from typing import TYPE_CHECKING, Final

from furiosa.broker.devices import Foreign, Holder
from furiosa.broker.grants import Grants
from furiosa.broker.lease import Claim
from furiosa.broker.lease.states import (
    Busy,
    Forbidden,
    NoLongerWanted,
    Obstacle,
    Quota,
    Refused,
    Shut,
    ShuttingDown,
    Unknown,
)
from furiosa.common.errors import (
    BrokerDraining,
    DeviceBusy,
    DeviceUnavailable,
    FuriosaError,
    LimitExceeded,
    NotAllowed,
    UnknownDevice,
)
from furiosa.common.names import DeviceFile

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_COMMAND: Final = 256  # of a holder, in errors: gRPC's trailers have room for 8 KiB in all


class Refusals:
    """`foreign` and `aside` are to be kept up to date: who is in the way without a lease, and why it is set
    aside.
    """

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self.foreign: Foreign = {}
        self.aside: Mapping[DeviceFile, str] = {}

    def error(self, refused: Refused, claim: Claim) -> FuriosaError:
        spec = str(refused.spec)
        match refused.refusal:
            case Unknown() if claim.pool:
                return NotAllowed(claim.tenant, f"use {spec}: so much was not reserved for it")
            case Unknown():
                return UnknownDevice(spec)
            case Forbidden():
                return NotAllowed(claim.tenant, f"use {spec}")
            case Quota(limit, value, maximum):
                return LimitExceeded(f"{limit} {claim.tenant}", value, maximum)
            case Shut(npu, reason):
                return DeviceUnavailable(spec, f"npu{npu}: {reason}")
            case Busy(None, None):
                return DeviceBusy(spec)
            case Busy(None, DeviceFile() as file):
                stranger = self._stranger(file)
                if stranger is None:
                    return DeviceBusy(spec, str(file), 0, self.aside.get(file, "")[:MAX_COMMAND])
                command = stranger.command_line[:MAX_COMMAND]
                return DeviceBusy(spec, str(file), stranger.pid, command)
            case Busy(lease, file):
                grant = None if lease is None else self._grants.get(lease)
                if grant is None:
                    return DeviceBusy(spec)
                view = grant.view
                command = (view.command_line or view.remote)[:MAX_COMMAND]
                return DeviceBusy(spec, str(file), view.pid, command)
            case ShuttingDown() | NoLongerWanted():
                return BrokerDraining()

    def reason(self, obstacle: Obstacle) -> str:
        match obstacle:
            case Quota(limit, value, maximum):
                return f"{limit} would be {value}, the limit is {maximum}"
            case Shut(npu, reason):
                return f"npu{npu} is not available: {reason}"
            case Busy(None, None):
                return "kept for requests ahead"
            case Busy(None, DeviceFile() as file):
                if file in self.aside:
                    return f"{file} is {self.aside[file]}"
                stranger = self._stranger(file)
                who = "" if stranger is None else f" by pid {stranger.pid}"
                return f"{file} is open behind the broker's back{who}"
            case Busy(lease, file):
                return f"{file} is held by lease {lease}"

    def _stranger(self, file: DeviceFile) -> Holder | None:
        """Of several, the one that `ps` shows first."""
        return next(iter(self.foreign.get(file, ())), None)
