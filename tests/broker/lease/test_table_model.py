"""Random histories: the table against a brute force that recomputes every decision from scratch."""

import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furiosa.broker.lease import Card, Claim, Event, Lease, LeaseTable, Policy, Rules, Terms
from furiosa.broker.lease.states import (
    Cancelled,
    CardsChanged,
    Changed,
    Closed,
    Elapsed,
    Ended,
    ForeignHeld,
    Granted,
    Handed,
    HolderGone,
    Queued,
    Quiesced,
    Recalled,
    Refused,
    Released,
    Renewed,
    Requested,
    StopWorkers,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.brute_force import BruteForce, Waiting

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

STEPS = int(os.environ.get("FURIOSA_STEPS", "20000"))
AGING = 10.0
SPECS = [
    DeviceSpec.parse(text)
    for text in (
        "warboy*1",
        "warboy(2)*1",
        "warboy(2)*2",
        "warboy*3",
        "npu:0",
        "npu:0:1",
        "npu:1:0-1",
        "npu:2:0",
        "warboy*1,npu:1:1",
        "npu:0:0,npu:2:0",
        "npu:9",
    )
]
CLAIMS = [
    Claim("a"),
    Claim("b", weight=3.0),
    Claim("c", max_cores=2, max_waiting=2),
    Claim("d", cards=frozenset({0, 1})),
    Claim("e", may_preempt=True),
]


def card(npu: int, cores: int = 2) -> Card:
    names = [f"npu{npu}", *(f"npu{npu}pe{core}" for core in range(cores))]
    names += [f"npu{npu}pe{first}-{first + 1}" for first in range(0, cores - 1, 2)]
    return Card(npu, cores, tuple(map(DeviceFile.parse, names)))


class History:
    """Posts events chosen by `choose`, and judges what the table makes of each."""

    def __init__(self, choose: "Choose[object]", policy: Policy) -> None:
        self.choose = choose
        ids = itertools.count(1)
        cards = [card(0), card(1), card(2, cores=4)]
        rules = Rules(policy, aging=AGING, recall_grace=3.0)
        self.table = LeaseTable(cards, lambda: f"l{next(ids)}", rules)
        self.model = BruteForce({c.npu: c for c in cards}, policy, AGING)
        self.every_card = {c.npu: c for c in cards}
        self.numbers = itertools.count(1)
        self.now = 0.0
        self.stopping: list[str] = []

    def step(self) -> None:
        self.now += self.pick([0.0, 0.0, 0.1, 1.0, 4.0])
        kinds: list[Callable[[], Event | None]] = [
            *(self.ask, self.ask, self.release),
            *(self.quiesce, self.quiesce, self.other),
        ]
        event = self.pick(kinds)()
        if event is not None:
            self.post(event)

    def pick(self, options: Sequence[T]) -> T:
        return self.choose(options)  # type: ignore[return-value]  # one of the options

    def ask(self) -> Event | None:
        wait = self.pick([None, None, 5.0, 50.0, math.inf])
        return Requested(
            next(self.numbers),
            self.pick([1, 2, 3]),
            self.pick(SPECS),
            None if wait is None else self.now + wait,
            self.pick(CLAIMS),
            self.pick([0, 0, 0, 2]),
            self.pick([Terms(), Terms(), Terms(time_to_live=6.0), Terms(linger=5.0)]),
        )

    def release(self) -> Event | None:
        held = list(self.model.held)
        if not held:
            return None
        lease = self.pick(held)
        events: list[Event] = [Released(lease, "x"), Recalled(lease, "wanted", 2.0)]
        return self.pick(events)

    def quiesce(self) -> Event | None:
        return Quiesced(self.pick(self.stopping)) if self.stopping else None

    def other(self) -> Event | None:
        held = list(self.model.held)
        open_cards = sorted(self.model.cards)
        events: list[Event] = [
            Elapsed(),
            Elapsed(),
            HolderGone(self.pick([1, 2, 3]), "died"),
        ]
        names: list[str] = self.pick([[], [], ["npu0pe1"], ["npu2", "npu1pe0"]])
        events.append(ForeignHeld(frozenset(map(DeviceFile.parse, names))))
        if self.model.line:
            events.append(Cancelled(self.pick(self.model.line).requested.request))
        if held:
            events.append(Renewed(self.pick(held), self.pick([None, 7.0])))
            events.append(Handed(self.pick(held), self.pick([1, 2, 3])))
        if open_cards:
            npu = self.pick(open_cards)
            role = self.pick(["cordon", "health"])
            events.append(Closed(npu, role, None))
            events.append(Closed(npu, role, "bad", self.pick([None, 2.0])))
        present = self.pick([[0, 1, 2], [0, 1, 2], [1, 2], [0]])
        events.append(CardsChanged(tuple(self.every_card[npu] for npu in present), 2.0))
        return self.pick(events)

    def post(self, event: Event) -> None:
        self.before(event)
        effects = self.table.handle(event, now=self.now)
        self.table.check()
        self.judge(event, effects)

    def before(self, event: Event) -> None:
        """What the event itself means to the model."""
        model = self.model
        match event:
            case Requested():
                wanted, most = model.wanted_cores(event), event.claim.max_cores
                if wanted is not None and (most is None or wanted <= most):
                    model.line.append(Waiting(event, self.now, event.request))
                    claim = event.claim
                    model.shares.wait(claim.tenant, claim.weight, 1, self.now)
            case Cancelled(request):
                self.forget(request)
            case Quiesced(lease):
                self.give_back(lease)
            case ForeignHeld(files):
                model.foreign = files
            case Closed(npu, role, reason, _):
                roles = model.closed.setdefault(npu, set())
                roles.discard(role) if reason is None else roles.add(role)
            case CardsChanged(cards, _):
                model.cards = {c.npu: c for c in cards}

    def forget(self, request: int) -> None:
        for waiting in self.model.line:
            if waiting.requested.request == request:
                self.model.line.remove(waiting)
                self.model.shares.wait(waiting.requested.claim.tenant, None, -1, self.now)
                return

    def give_back(self, lease_id: str) -> None:
        lease = self.model.held.pop(lease_id)
        self.model.shares.hold(lease.tenant, None, -lease.cores, self.now)

    def judge(self, event: Event, effects: Sequence[object]) -> None:
        model = self.model
        for effect in effects:  # refusals first: who was refused was no longer in the queue
            if isinstance(effect, Refused) and not self.asked_now(event, effect.request):
                self.forget(effect.request)
        expected = model.expected(self.now)
        granted = [(e.request, list(e.lease.files)) for e in effects if isinstance(e, Granted)]
        joined = any(self.asked_now(event, w.requested.request) for w in model.line)
        if isinstance(event, Requested) and not joined:
            expected = []  # refused at the door
        if isinstance(event, Released | Renewed | Handed | Recalled):
            expected = []  # frees nothing; that time has changed the order is for the next Elapsed
        assert granted == expected, f"{event}: {effects}"
        for effect in effects:
            match effect:
                case Granted(request, lease):
                    self.granted(request, lease)
                case Changed(before, after):
                    assert model.held[after.id] == before
                    model.held[after.id] = after
                case StopWorkers(lease):
                    assert lease.state is LeaseState.REVOKING
                    model.held[lease.id] = lease
                    self.stopping.append(lease.id)
                case Ended(lease):
                    self.stopping.remove(lease.id)
                case Refused(request):
                    self.forget(request)
        waiting = {w.requested.request for w in model.line}
        assert waiting == {place.waiter.requested.request for place in self.table.queue(self.now)}
        assert {lease.id: lease for lease in self.table.leases} == model.held
        queued = [e for e in effects if isinstance(e, Queued)]
        assert all(effect.request in waiting for effect in queued)

    def asked_now(self, event: Event, request: int) -> bool:
        return isinstance(event, Requested) and event.request == request

    def granted(self, request: int, lease: Lease) -> None:
        (waiting,) = (w for w in self.model.line if w.requested.request == request)
        self.forget(request)
        free = self.model.free()
        for file in lease.files:
            assert self.model.cores(file) <= free, f"{file} was not free"
            free -= self.model.cores(file)
        self.model.held[lease.id] = lease
        claim = waiting.requested.claim
        self.model.shares.hold(claim.tenant, claim.weight, lease.cores, self.now)

    def settle(self) -> None:
        """Everybody lets go: then nothing may be left over, and who waited has been served."""
        everything = tuple(self.every_card.values())
        self.post(CardsChanged(everything, 0.0))
        self.post(ForeignHeld(frozenset()))
        for npu in self.every_card:
            for role in ("cordon", "health"):
                self.post(Closed(npu, role, None))
        for _ in range(300):
            if not self.model.held and not self.model.line:
                break
            for lease in tuple(self.model.held):
                self.post(Released(lease, "over"))
            for lease in tuple(self.stopping):
                self.post(Quiesced(lease))
            self.now += 1.0
            self.post(Elapsed())
        assert not self.model.held
        assert not self.model.line
        assert self.table.leases == ()
        assert self.table.waiting == 0


@given(st.data(), st.sampled_from(Policy))
@settings(max_examples=60, stateful_step_count=1)
def test_short_histories_agree_with_the_brute_force(data: st.DataObject, policy: Policy) -> None:
    def choose(options: Sequence[object]) -> object:
        return options[data.draw(st.integers(0, len(options) - 1))]

    history = History(choose, policy)
    for _ in range(data.draw(st.integers(1, 40))):
        history.step()
    history.settle()


@pytest.mark.parametrize("policy", Policy)
def test_a_long_history_agrees_with_the_brute_force(policy: Policy) -> None:
    seed = int(os.environ.get("FURIOSA_SEED", "7"))
    history = History(random.Random(seed).choice, policy)
    for number in range(STEPS):
        try:
            history.step()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}, step {number}") from exc
        if number % 500 == 499:
            history.settle()


def test_nobody_waits_longer_than_aging_allows() -> None:
    """One core, a stream of important requests, one unimportant request that came first."""
    ids = itertools.count(1)
    table = LeaseTable([card(0)], lambda: f"l{next(ids)}", Rules(aging=AGING))
    spec = DeviceSpec.parse("npu:0:0-1")

    def ask(request: int, now: float, priority: int) -> None:
        claim = Claim(f"t{priority}")
        table.handle(Requested(request, 1, spec, math.inf, claim, priority), now=now)

    ask(1, 0.0, 5)
    ask(2, 0.0, 0)
    now, served = 0.0, []
    for request in range(3, 200):
        ask(request, now, 5)
        now += 1.0
        (lease,) = table.leases
        table.handle(Released(lease.id, "done"), now=now)
        effects = table.handle(Quiesced(lease.id), now=now)
        served += [effect.request for effect in effects if isinstance(effect, Granted)]
        if 2 in served:
            break
    assert now <= AGING * 5 + 1 + AGING, "five steps of priority and one more"
