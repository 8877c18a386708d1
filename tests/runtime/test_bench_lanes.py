"""Lanes of queries, with runners that have no device."""

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from furiosa.runtime import FuriosaRuntimeError, Runner
from furiosa.runtime.bench import BenchConfig, Workload, lanes, recording
from furiosa.runtime.bench.recording import Plan, Recording

if TYPE_CHECKING:
    from furiosa.runtime.sync import Runner as BlockingRunner


class Clock:
    """Stands still but for what is added to it."""

    def __init__(self) -> None:
        self.ns = 1000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(recording, "_now", made)
    return made


class Model:
    """`takes`: nanoseconds of each run, in turn."""

    def __init__(self, clock: Clock, *takes: int) -> None:
        self.inputs: list[Any] = []
        self._clock = clock
        self._takes = iter(takes)
        self._lock = threading.Lock()

    def allocate(self) -> list[Any]:
        return [np.ones(3)]

    def _run(self, inputs: list[Any]) -> None:
        with self._lock:
            self.inputs.append(inputs)
            self._clock.ns += next(self._takes, 0)


class Tasks(Model):
    async def run(self, inputs: list[Any]) -> None:
        self._run(inputs)


class Threads(Model):
    def run(self, inputs: list[Any]) -> None:
        self._run(inputs)


class Gone(Model):
    def run(self, inputs: object) -> None:
        raise FuriosaRuntimeError("gone")


def a_plan(workload: Workload = Workload.LATENCY, **config: Any) -> Plan:
    return Plan(BenchConfig("model.onnx", **config), workload)


async def in_tasks(model: Model, count: int, plan: Plan) -> None:
    await lanes.in_tasks(cast("Runner", model), count, nullcontext(), plan)


def in_threads(model: Model, count: int, plan: Plan) -> None:
    lanes.in_threads(cast("BlockingRunner", model), count, nullcontext(), plan)


async def test_what_warms_up_is_not_counted(clock: Clock) -> None:
    model, plan = Tasks(clock, *[500] * 6), a_plan(queries=2, warm_up=2)
    await in_tasks(model, 3, plan)
    assert plan.queries == 2
    assert len(model.inputs) == 8
    assert plan.all().latencies.max == 0  # the slow ones were before


async def test_inputs_are_zeros_and_each_lane_has_its_own(clock: Clock) -> None:
    model = Tasks(clock)
    await in_tasks(model, 2, a_plan(queries=2, warm_up=1))
    assert all(not array.any() for arrays in model.inputs for array in arrays)
    assert model.inputs[0][0] is not model.inputs[1][0]


async def test_a_latency_is_that_of_the_query_alone(clock: Clock) -> None:
    plan = a_plan(queries=3, warm_up=0)
    await in_tasks(Tasks(clock, 100, 300, 200), 1, plan)
    found = plan.all()
    assert (found.latencies.total, found.latencies.max) == (600, 300)
    assert found.end - found.start == 600


@pytest.mark.parametrize(
    ("workload", "counted"),
    [(Workload.LATENCY, 300), (Workload.THROUGHPUT, 400)],  # the last hold-up is before no query
)
def test_what_holds_up_a_lane_counts_where_queries_follow_each_other(
    workload: Workload, counted: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(self: Recording, due: int, done: int) -> None:
        self.latencies.record(done - due)
        clock.ns += 50

    monkeypatch.setattr(Recording, "record", record)
    plan = a_plan(workload, queries=3)
    plan.begin()
    for _ in plan.turns(plan.recording()):
        clock.ns += 100
    assert plan.all().latencies.total == counted


async def test_it_ends_when_both_minimums_are_reached(clock: Clock) -> None:
    long = a_plan(queries=2, duration=1e-6, warm_up=0)
    await in_tasks(Tasks(clock, *[400] * 5), 1, long)
    assert long.queries == 3  # of 400 ns each, for 1000
    many = a_plan(queries=5, duration=1e-6, warm_up=0)
    await in_tasks(Tasks(clock, *[400] * 5), 1, many)
    assert many.queries == 5


def test_threads_share_the_queries(clock: Clock) -> None:
    model, plan = Threads(clock), a_plan(Workload.THROUGHPUT, queries=200)
    in_threads(model, 4, plan)
    assert plan.queries == 200
    assert len({id(arrays) for arrays in model.inputs}) == 4


async def test_stopping_keeps_what_was_measured(clock: Clock) -> None:
    plan = a_plan(queries=1000, warm_up=0)

    class Stopping(Tasks):
        async def run(self, inputs: list[Any]) -> None:
            await super().run(inputs)
            if len(self.inputs) == 5:
                plan.stop()

    await in_tasks(Stopping(clock), 1, plan)
    assert plan.queries == 5


async def test_stopping_ends_the_warm_up_too(clock: Clock) -> None:
    plan = a_plan(warm_up=10**9)
    plan.stop()
    for model in (Tasks(clock), Threads(clock)):
        if isinstance(model, Tasks):
            await in_tasks(model, 2, plan)
        else:
            in_threads(model, 2, plan)
        assert model.inputs == []
    assert plan.queries == 0


@pytest.mark.parametrize("warm_up", [0, 1])
async def test_a_query_that_fails_ends_the_benchmark_with_its_error(
    warm_up: int, clock: Clock
) -> None:
    with pytest.raises(FuriosaRuntimeError, match="gone"):
        await in_tasks(Gone(clock), 2, a_plan(warm_up=warm_up))
    with pytest.raises(FuriosaRuntimeError, match="gone"):
        in_threads(Gone(clock), 2, a_plan(warm_up=warm_up, duration=100))
