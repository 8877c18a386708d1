"""Who holds which cores: states, decisions and waiting, without I/O, clock or protobuf."""

from furiosa.broker.lease.cards import Card
from furiosa.broker.lease.placement import Policy
from furiosa.broker.lease.pools import EVERYBODY, Pools
from furiosa.broker.lease.queue import QueuePlace
from furiosa.broker.lease.states import Claim, Effect, Event, Lease, PoolsEvent, Terms
from furiosa.broker.lease.table import LeaseTable, Rules

__all__ = [
    "EVERYBODY",
    "Card",
    "Claim",
    "Effect",
    "Event",
    "Lease",
    "LeaseTable",
    "Policy",
    "Pools",
    "PoolsEvent",
    "QueuePlace",
    "Rules",
    "Terms",
]
