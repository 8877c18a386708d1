"""Runs, slots, leaders and followers, without threads or loops."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from furiosa.queuepair import Completion, CompletionStatus, Slots
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.inflight import InFlight, Run, Stage

OK = CompletionStatus.OK


class Flag:
    def __init__(self) -> None:
        self.up = False

    def set(self) -> None:
        self.up = True


def flights(*counts: int, bell: Flag | None = None) -> InFlight:
    return InFlight([Slots(64, count) for count in counts], (bell or Flag()).set)


def submitted(runs: InFlight) -> Run:
    run = runs.enter()
    assert run.stage is Stage.PLACED
    runs.submit(run)
    return run


def test_runs_spread_over_the_devices() -> None:
    runs = flights(2, 2)
    assert [submitted(runs).device for _ in range(4)] == [0, 1, 0, 1]


def test_resident_inputs_decide_only_between_equally_busy_devices() -> None:
    runs = flights(2, 2)
    assert runs.enter(resident=1).device == 1
    assert runs.enter(resident=1).device == 0


def test_slots_in_use_are_distinct() -> None:
    runs = flights(3)
    assert {submitted(runs).slot for _ in range(3)} == {0, 64, 128}


def test_without_a_slot_a_run_waits_and_is_served_in_order() -> None:
    runs = flights(1)
    first = submitted(runs)
    second, third = runs.enter(), runs.enter()
    assert second.stage is third.stage is Stage.WAITING
    asleep = Flag()
    runs.follow(second, asleep)
    runs.complete(Completion(first.id, OK))
    assert second.stage is Stage.WAITING, (
        "the slot is the first one's until it has read the outputs"
    )
    assert list(runs.leave(first)) == [asleep]
    assert (second.stage, second.slot) == (Stage.PLACED, first.slot)
    assert third.stage is Stage.WAITING


def test_a_completion_goes_to_its_run() -> None:
    runs = flights(2)
    first, second = submitted(runs), submitted(runs)
    bell = Flag()
    runs.follow(second, bell)
    assert list(runs.complete(Completion(second.id, CompletionStatus.EXECUTION_FAILED))) == [bell]
    assert second.outcome == Completion(second.id, CompletionStatus.EXECUTION_FAILED)
    assert first.outcome is None


def test_a_cancelled_run_keeps_its_slot_until_its_completion() -> None:
    runs = flights(1)
    cancelled = submitted(runs)
    runs.leave(cancelled)
    heir = runs.enter()
    assert heir.stage is Stage.WAITING
    runs.complete(Completion(cancelled.id, OK))
    assert (heir.stage, heir.slot) == (Stage.PLACED, cancelled.slot)
    assert cancelled.outcome is None


def test_a_run_cancelled_before_it_was_submitted_gives_its_slot_back_at_once() -> None:
    runs = flights(1)
    placed, waiting = runs.enter(), runs.enter()
    runs.leave(placed)
    assert waiting.stage is Stage.PLACED


def test_a_run_cancelled_while_it_waits_is_passed_over() -> None:
    runs = flights(1)
    first, second, third = submitted(runs), runs.enter(), runs.enter()
    runs.leave(second)
    runs.complete(Completion(first.id, OK))
    runs.leave(first)
    assert third.stage is Stage.PLACED
    runs.check()


def test_one_leads_and_its_resignation_wakes_a_follower() -> None:
    runs = flights(3)
    first, second, third = (submitted(runs) for _ in range(3))
    assert runs.lead(first)
    assert not runs.lead(second)
    bells = Flag(), Flag()
    runs.follow(second, bells[0])
    runs.follow(third, bells[1])
    assert list(runs.resign(first)) == [bells[0]]
    assert runs.lead(second)


def test_the_wake_up_of_a_follower_that_is_cancelled_passes_on() -> None:
    runs = flights(3)
    first, second, third = (submitted(runs) for _ in range(3))
    assert runs.lead(first)
    bells = Flag(), Flag()
    runs.follow(second, bells[0])
    runs.follow(third, bells[1])
    assert list(runs.resign(first)) == [bells[0]]
    assert list(runs.leave(second)) == [bells[1]], "or nobody would read completions any more"


def test_a_leader_that_is_given_a_slot_is_rung() -> None:
    bell = Flag()
    runs = flights(1, bell=bell)
    first, second = submitted(runs), runs.enter()
    assert runs.lead(second), "the first one has just got its completion, say"
    runs.complete(Completion(first.id, OK))
    assert not bell.up
    runs.leave(first)
    assert second.stage is Stage.PLACED
    assert bell.up, "or it would go on waiting for completions"


def test_a_leader_is_rung_when_all_fail() -> None:
    bell = Flag()
    runs = flights(1, bell=bell)
    runs.lead(submitted(runs))
    runs.fail(FuriosaRuntimeError("worker died"))
    assert bell.up


def test_a_failure_ends_every_run_and_wakes_every_follower() -> None:
    runs = flights(1)
    first, second = submitted(runs), runs.enter()
    bells = Flag(), Flag()
    runs.follow(first, bells[0])
    runs.follow(second, bells[1])
    failure = FuriosaRuntimeError("worker died")
    assert set(runs.fail(failure)) == set(bells)
    assert first.outcome is second.outcome is failure
    assert list(runs.fail(FuriosaRuntimeError("later"))) == []
    assert runs.failure is failure
    runs.leave(first)
    runs.leave(second)
    runs.check()


def test_a_failure_does_not_take_away_what_has_been_achieved() -> None:
    runs = flights(1)
    run = submitted(runs)
    runs.complete(Completion(run.id, OK))
    runs.fail(FuriosaRuntimeError("too late"))
    assert run.outcome == Completion(run.id, OK)


def test_drained_when_the_last_run_has_left() -> None:
    runs = flights(1)
    run, idle = submitted(runs), Flag()
    assert not runs.drain(idle)
    assert idle in runs.leave(run)
    assert runs.drain(Flag())


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, slots are neither lost nor shared, and nobody sleeps for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.bell = Flag()
        self.runs = flights(2, 2, bell=self.bell)
        self.open: list[Run] = []
        self.on_device: list[int] = []
        self.bells: dict[Run, Flag] = {}
        self.leader: Run | None = None

    def _pick(self, index: int) -> Run:
        return self.open[index % len(self.open)]

    def _ring(self, signals: object) -> None:
        for flag in signals:  # type: ignore[attr-defined]  # a sequence of our flags
            flag.set()

    @rule()
    def enter(self) -> None:
        self.open.append(self.runs.enter())

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9))
    def submit(self, index: int) -> None:
        run = self._pick(index)
        if run.stage is Stage.PLACED:
            self.runs.submit(run)
            self.on_device.append(run.id)

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9))
    def sleep(self, index: int) -> None:
        run = self._pick(index)
        if run.asleep and run not in self.bells and run is not self.leader:
            if self.runs.lead(run):
                self.leader = run
                self.bell.up = False
            else:
                self.bells[run] = Flag()
                self.runs.follow(run, self.bells[run])

    @precondition(lambda self: self.on_device)
    @rule(index=st.integers(0, 9))
    def complete(self, index: int) -> None:
        number = self.on_device.pop(index % len(self.on_device))
        self._ring(self.runs.complete(Completion(number, OK)))

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        run = self._pick(index)
        if run is self.leader:
            self.leader = None
            self._ring(self.runs.resign(run))
        self.bells.pop(run, None)
        self.open.remove(run)
        self._ring(self.runs.leave(run))

    @rule()
    def the_woken_look_again(self) -> None:
        for run, flag in list(self.bells.items()):
            if flag.up:
                del self.bells[run]

    @invariant()
    def parts_agree(self) -> None:
        self.runs.check()

    @invariant()
    def somebody_reads_or_is_about_to(self) -> None:
        sleeping = [flag for flag in self.bells.values() if not flag.up]
        awake = [run for run, flag in self.bells.items() if flag.up]
        others = [run for run in self.open if run not in self.bells]
        assert not sleeping or self.leader is not None or awake or others

    @invariant()
    def who_has_what_it_waits_for_is_awake(self) -> None:
        assert all(run.asleep for run, flag in self.bells.items() if not flag.up)
        assert self.leader is None or self.leader.stage is not Stage.PLACED or self.bell.up


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
