"""An arbiter and the levers around it: workers are a list of who must stop, time stands still."""

import asyncio
import itertools
import math
from collections.abc import Callable
from pathlib import Path

from furiosa.broker.arbiter import Arbiter, Workers
from furiosa.broker.changes import Changes
from furiosa.broker.journal import Files, Journal, Sync
from furiosa.broker.lease import Card, Claim, Pools, Rules, Terms
from furiosa.broker.lease.states import UNTIL_RELEASED
from furiosa.broker.observers import Log
from furiosa.common.clock import ManualClock
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseView, WaiterView
from support.owners import FakeSession

BOOT = "a boot"


def two_core_card(npu: int) -> Card:
    names = (f"npu{npu}", f"npu{npu}pe0", f"npu{npu}pe1", f"npu{npu}pe0-1")
    return Card(npu, 2, tuple(map(DeviceFile.parse, names)))


class Bench:
    """`stops_at_once`: workers are gone as soon as they are asked to stop."""

    def __init__(
        self,
        folder: Path,
        cards: int = 1,
        *,
        stops_at_once: bool = False,
        sync: Sync = Sync.NEVER,
        files: Files | None = None,
        rules: Rules | None = None,
        ids: "itertools.count[int] | None" = None,
    ) -> None:
        numbers = itertools.count() if ids is None else ids
        self.path = folder / "journal"
        self.journal = Journal(self.path, sync=sync, boot=BOOT, files=files)
        self.found = self.journal.recover()
        self.stopping: dict[str, Callable[[], None]] = {}
        self.detached: list[str] = []
        self.stops_at_once = stops_at_once
        self.clock = ManualClock(100.0)
        self.changes = Changes()
        table = Pools(
            map(two_core_card, range(cards)),
            lambda: f"l{next(numbers)}",
            Rules(recall_grace=5.0) if rules is None else rules,
        )
        workers = Workers(self._stop, self.detached.append)
        self.arbiter = Arbiter(
            table, self.journal, workers, Log(), clock=self.clock, changes=self.changes
        )

    def _stop(self, lease: str, stopped: Callable[[], None]) -> None:
        if self.stops_at_once:
            stopped()
        else:
            self.stopping[lease] = stopped

    def connect(self, who: FakeSession) -> FakeSession:
        self.arbiter.session_opened(who.session)
        return who

    async def acquire(
        self,
        who: FakeSession,
        spec: str = "npu:0:0",
        wait: float = 0.0,
        *,
        terms: Terms = UNTIL_RELEASED,
        tenant: str = "uid:1000",
        priority: int = 0,
        may_preempt: bool = False,
    ) -> LeaseView:
        claim = Claim(tenant, may_preempt=may_preempt)
        answer = self.arbiter.request(
            who.session, DeviceSpec.parse(spec), wait, claim, terms=terms, priority=priority
        )
        try:
            return (await answer).lease
        except asyncio.CancelledError:
            self.arbiter.withdraw(answer)
            raise

    async def wait_in_line(self, who: FakeSession, told: Callable[[WaiterView], None]) -> None:
        spec, claim = DeviceSpec.parse("npu:0:0"), Claim("uid:1000")
        await self.arbiter.request(who.session, spec, math.inf, claim, on_queued=told)

    async def acquire_secret(self, who: FakeSession, spec: str, terms: Terms) -> tuple[str, str]:
        """Id and secret of a lease."""
        acquired = await self.arbiter.request(
            who.session, DeviceSpec.parse(spec), 0.0, Claim("uid:1000"), terms=terms
        )
        return acquired.lease.id, acquired.secret

    def workers_stopped(self, lease: str) -> None:
        self.stopping.pop(lease)()

    def pass_time(self, seconds: float) -> None:
        """As far as the arbiter's timer is concerned."""
        self.clock.advance(seconds)
        self.arbiter.elapsed()
