"""A reservation, and the rules by which they stand beside each other. PURE."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from furiosa.common.errors import BadArgument, DeviceBusy
from furiosa.common.names import DeviceFile
from furiosa.common.views import Container

OUTSIDE: Final = "outside of containers"  # whose a reservation is that a process in none came for
MAX_TEXT: Final = 253  # characters of a manager or name: as much as a Kubernetes name has
MAX_LABEL: Final = 4096


class Reservation(Struct, frozen=True):
    """`bound` is the pod or container whose it is, as `key_of` says it; empty: nobody has come for it.

    `created_at` is seconds since the epoch.
    """

    id: str
    files: tuple[DeviceFile, ...]
    manager: str
    name: str
    label: str
    created_at: float
    bound: str = ""
    container: Container | None = None

    def overlaps(self, files: Iterable[DeviceFile]) -> DeviceFile | None:
        """The first file of it that has a core of one of `files`."""
        wanted = tuple(files)
        return next((mine for mine in self.files if any(mine.overlaps(f) for f in wanted)), None)

    @property
    def reason(self) -> str:
        """Why its cores are not for everybody, for people."""
        if self.container is not None and self.container.pod_uid:
            return f"reserved for pod {self.container.pod_uid}"
        if self.container is not None:
            return f"reserved for container {self.container.id[:12] or self.container.runtime}"
        return f"reserved by {self.manager}" + (
            f" for {self.label[:MAX_TEXT]}" if self.label else ""
        )


def key_of(container: Container | None) -> str:
    """Whose a reservation is, once a process in that container came for it: its pod's, else its own."""
    if container is None:
        return OUTSIDE
    return container.pod_uid or container.id or container.runtime


class Asked(Struct, frozen=True):
    """What somebody wants to reserve."""

    files: tuple[DeviceFile, ...]
    manager: str
    name: str
    label: str

    def check(self) -> None:
        """Raises: BadArgument."""
        if not self.files:
            raise BadArgument("device_files", "empty", "one device file or more")
        for place, file in enumerate(self.files):
            if any(file.overlaps(other) for other in self.files[:place]):
                expected = "files that have no core in common"
                raise BadArgument("device_files", ",".join(map(str, self.files)), expected)
        for what in ("manager", "name", "label"):
            text: str = getattr(self, what)
            most = MAX_LABEL if what == "label" else MAX_TEXT
            if len(text) > most or not text.isprintable():
                expected = f"at most {most} characters that can be shown"
                raise BadArgument(what, repr(text[:32]), expected)
        if not self.manager:
            raise BadArgument("manager", "empty", "who reserves, e.g. the name of a resource")


class Outcome(Struct, frozen=True):
    """`same`: it is this one, already there. `over`: those end first."""

    same: Reservation | None = None
    over: tuple[Reservation, ...] = ()


def decide(
    asked: Asked, standing: Sequence[Reservation], living: Mapping[str, tuple[int, ...]]
) -> Outcome:
    """`living`: pids that have the grant of a reservation, by its id.

    Raises: DeviceBusy; BadArgument for a name that stands for other files.
    """
    if asked.name:
        for there in standing:
            if (there.manager, there.name) == (asked.manager, asked.name):
                if set(there.files) != set(asked.files):
                    expected = f"{','.join(map(str, there.files))}, which {asked.name} is"
                    raise BadArgument("device_files", ",".join(map(str, asked.files)), expected)
                return Outcome(there)
    same, over = None, []
    for there in standing:
        file = there.overlaps(asked.files)
        if file is None:
            continue
        if pids := living.get(there.id):
            raise _in_the_way(asked, file, there, pids[0])
        if there.manager != asked.manager or there.name or asked.name:
            raise _in_the_way(asked, file, there)
        if there.bound:
            over.append(there)
        elif set(there.files) == set(asked.files):
            same = there
    return Outcome(same, tuple(over))


def _in_the_way(asked: Asked, file: DeviceFile, there: Reservation, pid: int = 0) -> DeviceBusy:
    wanted = next(f for f in asked.files if f.overlaps(file))
    return DeviceBusy(str(wanted), str(file), pid, there.reason)
