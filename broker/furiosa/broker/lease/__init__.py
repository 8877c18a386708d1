"""Who holds which cores: states, decisions and waiting, without I/O, clock or protobuf."""

from furiosa.broker.lease.states import (
    Cancelled,
    Draining,
    Effect,
    Elapsed,
    Ended,
    Event,
    Granted,
    HolderGone,
    Lease,
    Quiesced,
    Refusal,
    Refused,
    Released,
    Requested,
    StopWorkers,
)
from furiosa.broker.lease.table import LeaseTable

__all__ = [
    "Cancelled",
    "Draining",
    "Effect",
    "Elapsed",
    "Ended",
    "Event",
    "Granted",
    "HolderGone",
    "Lease",
    "LeaseTable",
    "Quiesced",
    "Refusal",
    "Refused",
    "Released",
    "Requested",
    "StopWorkers",
]
