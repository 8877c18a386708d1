"""Which cores a session may lease: everybody's, those reserved for its pod, or those its container was given.

A process that has grants may lease what they say, and nothing else.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from msgspec import Struct

from furiosa.broker.lease import EVERYBODY
from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.broker.reservations.keeper import Keeper
from furiosa.broker.sessions import Session
from furiosa.common.errors import BadDeviceFile, NotAllowed
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import DEVICES, MANAGER, RESERVATIONS
from furiosa.common.selector import Counted, DeviceSpec, Item, Named
from furiosa.common.views import LeaseView


class Permit(Struct, frozen=True):
    """`spec`, as it is to be served, in `pool`."""

    pool: str
    spec: DeviceSpec


class Access:
    """`is_free(file)` says whether nobody has any of its cores. `containers_need_grants`: one of root's
    without a grant may lease nothing. For the event loop's thread.
    """

    def __init__(
        self,
        grants: GrantFiles,
        keeper: Keeper,
        is_free: Callable[[DeviceFile], bool],
        *,
        containers_need_grants: bool,
    ) -> None:
        self._grants = grants
        self._keeper = keeper
        self._is_free = is_free
        self._containers_need_grants = containers_need_grants
        self._of: WeakKeyDictionary[Session, frozenset[str]] = WeakKeyDictionary()

    def opened(self, session: Session) -> None:
        """To be told of each, while its process lives."""
        pid = session.owner.pid
        found = self._grants.of(pid) if pid else frozenset()
        if found and session.owner.is_alive:  # else they may be those of the pid's next holder
            self._of[session] = found

    def may_reserve(self, session: Session) -> bool:
        """Whether its container was given that."""
        return MANAGER in self._of.get(session, ())

    def is_given(self, session: Session) -> bool:
        """Whether its container was given cores, so that it needs no tenant's leave."""
        return bool(self._names(session, RESERVATIONS) or self._names(session, DEVICES))

    def permit(self, session: Session, spec: DeviceSpec) -> Permit:
        """Raises: NotAllowed, NotRecorded."""
        if reservations := self._names(session, RESERVATIONS):
            return self._reserved(session, spec, reservations)
        if names := self._names(session, DEVICES):
            return Permit(EVERYBODY, self._within(session, spec, _files(names)))
        self._need_no_grant(session)
        return Permit(EVERYBODY, spec)

    def check(self, session: Session, lease: LeaseView, pool: str) -> None:
        """Whether it may take over a lease of that pool. Raises: NotAllowed, NotRecorded."""
        if reservations := self._names(session, RESERVATIONS):
            fits = pool in self._pools(session, reservations)
        elif names := self._names(session, DEVICES):
            given = _files(names)
            fits = pool == EVERYBODY and all(_covers(given, file) for file in lease.device_files)
        else:
            self._need_no_grant(session)
            fits = pool == EVERYBODY
        if not fits:
            raise NotAllowed(str(session.owner.principal), f"have lease {lease.id}")

    def _reserved(self, session: Session, spec: DeviceSpec, names: list[str]) -> Permit:
        pools = self._pools(session, names)
        if not pools:
            raise NotAllowed(
                str(session.owner.principal),
                "use cores any more: its reservation has ended, or is another pod's",
            )
        pool = pools[0]  # all are of one pod, or container
        files = self._keeper.pool_files(pool)
        wanted = [item.file for item in spec.items if isinstance(item, Named)]
        if not all(_covers(files, file) for file in wanted):
            raise _outside(session, spec, files)
        return Permit(pool, spec)

    def _pools(self, session: Session, reservations: list[str]) -> list[str]:
        container = session.owner.view.container
        found = [self._keeper.bind(each, container) for each in reservations]
        return [pool for pool in found if pool is not None]

    def _within(
        self, session: Session, spec: DeviceSpec, given: tuple[DeviceFile, ...]
    ) -> DeviceSpec:
        """Counted items become files of those given, free ones first: the others are not its."""
        items: list[Item] = []
        taken: list[DeviceFile] = []
        for item in spec.items:
            if isinstance(item, Named):
                if not _covers(given, item.file):
                    raise _outside(session, spec, given)
                items.append(item)
                taken.append(item.file)
        for item in spec.items:
            if isinstance(item, Counted):
                fitting = [f for f in given if (f.cores.width == 1) == (item.cores == 1)]
                left = [f for f in fitting if not any(f.overlaps(t) for t in taken)]
                left.sort(key=lambda file: not self._is_free(file))
                if len(left) < item.count:
                    raise _outside(session, spec, given)
                items += map(Named, left[: item.count])
                taken += left[: item.count]
        return DeviceSpec(tuple(items))

    def _need_no_grant(self, session: Session) -> None:
        """A user's own containers are that user."""
        who = session.owner.principal
        if self._containers_need_grants and who.container is not None and not who.is_rootless:
            giver = "the cluster has given it none (ask for them in the pod's resources)"
            if not who.container.pod_uid:
                giver = "it was started without (podman run --device furiosa.ai/npu=...)"
            raise NotAllowed(str(who), f"lease cores: {giver}")

    def _names(self, session: Session, kind: str) -> list[str]:
        start = f"{kind}/"
        found = self._of.get(session)
        return (
            [] if found is None else sorted(n[len(start) :] for n in found if n.startswith(start))
        )


def _files(names: list[str]) -> tuple[DeviceFile, ...]:
    found = []
    for name in names:
        try:
            found.append(DeviceFile.parse(name))
        except BadDeviceFile:
            continue  # some other file that somebody put there
    return tuple(sorted(found, key=lambda file: file.sort_key))


def _covers(given: tuple[DeviceFile, ...], wanted: DeviceFile) -> bool:
    """Whether all cores of `wanted` are among those given: in one file, or one by one."""
    mine = [file for file in given if file.npu == wanted.npu]
    if any(file == wanted or file.cores.is_all for file in mine):
        return True
    cores = range(wanted.cores.first, wanted.cores.last + 1)
    return not wanted.cores.is_all and all(any(c in file.cores for file in mine) for c in cores)


def _outside(session: Session, spec: DeviceSpec, files: tuple[DeviceFile, ...]) -> NotAllowed:
    has = ", ".join(map(str, files)) or "nothing"
    return NotAllowed(str(session.owner.principal), f"use {spec}: it was given {has}")
