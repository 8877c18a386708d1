"""The reservations on the disk, in one file that is replaced in one step."""

from pathlib import Path

import msgspec

from furiosa.broker.reservations.record import Reservation
from furiosa.common.files import replace_file


class Saved(msgspec.Struct, frozen=True):
    reservations: tuple[Reservation, ...] = ()


def load(path: Path) -> tuple[Reservation, ...]:
    """Raises: OSError; ValueError for a file that is not whole: cores that somebody has must not be taken
    for free.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return msgspec.json.decode(data, type=Saved).reservations
    except msgspec.DecodeError as exc:
        raise ValueError(str(exc)) from None


def save(path: Path, reservations: tuple[Reservation, ...], *, sync: bool) -> None:
    """`sync`: it outlives a loss of power, else only the end of this process. Raises: OSError."""
    replace_file(path, msgspec.json.encode(Saved(reservations)), sync=sync, mode=0o600)
