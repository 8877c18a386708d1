"""Random histories against a model that is too simple to be wrong: a set of held cores."""

import itertools
import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from furiosa.broker.lease import (
    Cancelled,
    Effect,
    Elapsed,
    Ended,
    Event,
    Granted,
    HolderGone,
    Lease,
    LeaseTable,
    Quiesced,
    Refused,
    Released,
    Requested,
    StopWorkers,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec

CARDS = 2
FILES = [
    DeviceFile.parse(f"npu{card}{cores}")
    for card in range(CARDS)
    for cores in ("", "pe0", "pe1", "pe0-1")
]
SPECS = ["warboy*1", "warboy(2)*1", "warboy*3", "npu:0", "npu:0:1", "npu:1:0-1", "warboy*1,npu:1:1"]


def cores(files: tuple[DeviceFile, ...]) -> list[tuple[int, int]]:
    return [(f.npu, core) for f in files for core in (0, 1) if core in f.cores]


class Histories(RuleBasedStateMachine):
    """`held` is who really uses which core: from the grant until the workers have stopped."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        ids = itertools.count()
        self.table = LeaseTable(FILES, lambda: f"l{next(ids)}")
        self.numbers = itertools.count()
        self.now = 0.0
        self.held: dict[tuple[int, int], str] = {}
        self.running: dict[str, Lease] = {}
        self.stopping: set[str] = set()
        self.open: dict[int, int] = {}  # request -> holder

    def post(self, event: Event) -> None:
        for effect in self.table.handle(event, now=self.now):
            self.perform(effect)
        self.table.check()

    def perform(self, effect: Effect) -> None:
        match effect:
            case Granted(request, lease):
                assert self.open.pop(request) == lease.holder
                for core in cores(lease.files):
                    assert core not in self.held, f"{core} has two owners"
                    self.held[core] = lease.id
                self.running[lease.id] = lease
            case Refused(request):
                del self.open[request]
            case StopWorkers(lease):
                assert lease.id not in self.stopping
                self.stopping.add(lease.id)
            case Ended(lease):
                self.stopping.remove(lease.id)
                del self.running[lease.id]
                for core in cores(lease.files):
                    assert self.held.pop(core) == lease.id

    @rule(
        target=requests,
        spec=st.sampled_from(SPECS),
        holder=st.integers(1, 4),
        wait=st.sampled_from([None, 1.0, 5.0, math.inf]),
    )
    def request(self, spec: str, holder: int, wait: float | None) -> int:
        number = next(self.numbers)
        self.open[number] = holder
        deadline = None if wait is None else self.now + wait
        self.post(Requested(number, holder, DeviceSpec.parse(spec), deadline))
        if wait is None:
            assert number not in self.open, "a request that does not wait has no answer"
        return number

    @rule(number=requests)
    def cancel(self, number: int) -> None:
        self.open.pop(number, None)
        self.post(Cancelled(number))

    @rule(pick=st.integers(0, 100))
    def release(self, pick: int) -> None:
        if self.running:
            lease = sorted(self.running)[pick % len(self.running)]
            self.post(Released(lease, "test"))
            assert lease in self.stopping

    @rule(holder=st.integers(1, 4))
    def holder_dies(self, holder: int) -> None:
        self.post(HolderGone(holder, "test"))
        assert holder not in self.open.values()
        mine = {lease.id for lease in self.running.values() if lease.holder == holder}
        assert mine <= self.stopping

    @rule(pick=st.integers(0, 100))
    def workers_stop(self, pick: int) -> None:
        if self.stopping:
            self.post(Quiesced(sorted(self.stopping)[pick % len(self.stopping)]))

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.post(Elapsed())
        assert self.table.next_deadline() > self.now

    @invariant()
    def nothing_is_lost_or_leaked(self) -> None:
        assert {lease.id for lease in self.table.leases} == set(self.running)
        assert self.table.waiting == len(self.open)
        if not self.running:
            assert not self.open, "everything is free and somebody waits"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
