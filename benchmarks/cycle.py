"""Leasing a core of one's own: acquire and release by 1, 32 and 64 clients, on as many cards.

Against two empty unary RPCs on the same server, and beside other ways to lock something. All sides
take turns, a stretch each; a ratio is the median of the ratios of stretches in the same turn.
"""

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import broker, labgrid, redis_server
from benchmarks.cores import CLIENTS, SERVER, pin
from benchmarks.efforts import Effort
from benchmarks.figures import Figure, Found, Skipped, in_turn
from benchmarks.load import Load, Slot, clients

COUNTS = (1, 32, 64)
EMPTY = "two empty unary RPCs on the same server: grpc.health.v1.Health/Check"
AGAINST = {
    "empty": EMPTY,
    "empty_list": "two calls of Leases/List while there is none: same handlers, same session check",
    "redis": "a Redis lock: SET NX PX, delete by script; no persistence, Unix socket, redis-py",
    "redis_aof": "a Redis lock: the same, with appendfsync everysec",
    "labgrid": "labgrid coordinator: AcquirePlace, ReleasePlace, one place for each client",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a side of ours must reach beside another. None: only measured."""

    ours: str
    theirs: str
    p50: float | None
    throughput: float | None


GOALS = (
    Goal("grpc", "empty", 1.3, 0.7),
    Goal("handoff", "empty", 1.3, 0.7),
    Goal("grpc", "empty_list", None, None),
    Goal("handoff", "redis", 1.0, None),
    Goal("handoff", "redis_aof", None, None),
    Goal("grpc", "redis", None, None),
    Goal("grpc", "labgrid", None, None),
    Goal("handoff", "labgrid", None, None),
)

Side = Callable[[Sequence[str], float], Slot]  # one device for each client, seconds


def figures(effort: Effort) -> Iterator[Found]:
    with contextlib.ExitStack() as stack:
        sides, missing = _sides(stack)
        for kind, reason in missing.items():
            yield Skipped(f"acquire.cycle.*.{kind}", reason)
        for count in COUNTS:
            devices = [f"npu:{card}:0" for card in range(count)]
            slots = _in_turn(sides, devices, effort)
            for goal in GOALS:
                if goal.theirs in slots:
                    yield from _beside(goal, count, slots[goal.ours], slots[goal.theirs])


def _sides(stack: contextlib.ExitStack) -> tuple[dict[str, Side], dict[str, str]]:
    """What can be measured here, and why the rest cannot."""
    missing: dict[str, str] = {}
    server = stack.enter_context(broker.running(max(COUNTS))).pid
    servers = dict.fromkeys(("empty", "empty_list", "grpc", "handoff"), server)
    redis = {"redis": redis_server.IN_MEMORY, "redis_aof": redis_server.EVERY_SECOND}
    for kind, persistence in redis.items():
        if reason := redis_server.missing():
            missing[kind] = reason
        else:
            socket, pid = stack.enter_context(redis_server.running(*persistence))
            os.environ[f"BENCHMARK_{kind.upper()}"] = socket
            servers[kind] = pid
    for pid in servers.values():
        pin(pid, SERVER)
    load = stack.enter_context(clients(max(COUNTS)))
    sides = {kind: _side(load, kind, pid) for kind, pid in servers.items()}
    try:
        coordinator = stack.enter_context(labgrid.running())
        sides["labgrid"] = lambda devices, seconds: coordinator.run(len(devices), seconds)
    except labgrid.NotInstalled as exc:
        missing["labgrid"] = str(exc)
    return sides, missing


def _side(load: Load, kind: str, server: int) -> Side:
    return lambda devices, seconds: load.run(kind, devices, seconds, server=server)


def _in_turn(
    sides: Mapping[str, Side], devices: Sequence[str], effort: Effort
) -> Mapping[str, list[Slot]]:
    slots: dict[str, list[Slot]] = {name: [] for name in sides}
    for side in sides.values():
        side(devices, effort.slot_seconds / 4)  # connects, and warms up
    for _ in range(effort.slots):
        for name, side in sides.items():
            slots[name].append(side(devices, effort.slot_seconds))
    return slots


def _beside(
    goal: Goal, count: int, ours: Sequence[Slot], theirs: Sequence[Slot]
) -> Iterator[Figure]:
    name = f"acquire.cycle.{goal.ours}.{count}"
    other = "" if goal.theirs == "empty" else f".{goal.theirs}"
    busy, busy_there = (statistics.median(slot.busy for slot in side) for side in (ours, theirs))
    conditions = (
        f"{count} client processes on {len(CLIENTS)} cores; "
        f"server's CPU {busy:.2f} and {busy_there:.2f} of its core"
    )
    p50 = partial(in_turn, f"{name}.p50{other}", *map(p50s, (ours, theirs)), unit="us")
    rate = partial(in_turn, f"{name}.throughput{other}", *map(rates, (ours, theirs)), unit="1/s")
    against = AGAINST[goal.theirs]
    yield p50(against=against, target=goal.p50, conditions=conditions)
    yield rate(against=against, target=goal.throughput, bound="at least", conditions=conditions)


def p50s(slots: Sequence[Slot]) -> list[float]:
    return [statistics.median(slot.cycles) for slot in slots]


def rates(slots: Sequence[Slot]) -> list[float]:
    return [slot.rate for slot in slots]
