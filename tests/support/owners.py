"""Owners and sessions without processes."""

import itertools
from dataclasses import dataclass, field

from furiosa.broker.owners import ProcessMark
from furiosa.broker.sessions import Session
from furiosa.broker.tenants.principal import Principal
from furiosa.common.views import Notice, OwnerView

_ids = itertools.count(1)


@dataclass(frozen=True)
class FakeOwner:
    """Looks like `furiosa.broker.owners.Owner`; equal keys are one process."""

    pid: int = 4242
    uid: int = 1000
    gid: int = 1000
    start_time_ticks: int = 1
    command_line: str = "python app.py"
    pidfd: int = -1
    is_alive: bool = True

    @property
    def key(self) -> int:
        return self.pid

    @property
    def view(self) -> OwnerView:
        return OwnerView(self.pid, self.uid, self.gid, self.start_time_ticks, self.command_line)

    @property
    def principal(self) -> Principal:
        return Principal(self.uid, self.gid)

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.uid, self.gid, self.start_time_ticks, self.key)


@dataclass
class FakeSession:
    """A session that remembers its notices."""

    pid: int = 4242
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        owner = FakeOwner(self.pid, command_line=f"program {self.pid}")
        number = next(_ids)
        self.session = Session(number, owner, "test", self.notices.append, f"token {number}")
