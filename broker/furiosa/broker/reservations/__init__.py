"""Cores set aside for containers that are still to come, and what a container was given."""

from furiosa.broker.reservations.access import Access
from furiosa.broker.reservations.keeper import Keeper
from furiosa.broker.reservations.record import Reservation
from furiosa.broker.reservations.reserved import Reserved

__all__ = ["Access", "Keeper", "Reservation", "Reserved"]
