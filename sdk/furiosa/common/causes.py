"""Causes of the end of a lease that clients act upon; all others are only for people to read."""

from typing import Final

SHUTTING_DOWN: Final = "the broker is shutting down"  # another one may follow
REVOKED: Final = "revoked by an administrator"  # a reason may follow
