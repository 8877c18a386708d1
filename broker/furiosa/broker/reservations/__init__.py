"""Cores set aside for containers that are still to come, and what a container was given."""

from furiosa.broker.reservations.access import Access
from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.broker.reservations.keeper import Keeper
from furiosa.broker.reservations.record import Reservation

__all__ = ["Access", "GrantFiles", "Keeper", "Reservation"]
