"""One card that all clients want: how long they wait for it, and whether all of them get it.

Each waits without limit, holds for a fixed time, releases and asks again. In perfect order a client
waits for all others once: clients x hold time. Twice that is the bound on the p99.
"""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks import broker
from benchmarks.cores import SERVER, pin
from benchmarks.cycle import EMPTY, p50s, rates
from benchmarks.efforts import Effort
from benchmarks.figures import Figure, Found, in_turn, p99, single
from benchmarks.load import Slot, clients

COUNTS = (32, 64)
HOLD_SECONDS = 0.005
TURNS = 20  # of each client in a measurement, at the bound
DEVICE = "npu:0:0"
KINDS = ("grpc", "handoff")


def figures(effort: Effort) -> Iterator[Found]:
    with broker.running(1) as server, clients(max(COUNTS)) as load:
        pin(server.pid, SERVER)
        for count in COUNTS:
            devices = [DEVICE] * count
            run = partial(load.run, devices=devices, server=server.pid, waits=True)
            for kind in KINDS:
                run(kind, seconds=effort.slot_seconds / 4)
            slots: dict[str, list[Slot]] = {kind: [] for kind in ("empty", *KINDS)}
            for _ in range(effort.slots):
                for kind, taken in slots.items():
                    taken.append(run(kind, seconds=effort.slot_seconds))
            for kind in KINDS:
                name = f"acquire.contended.{kind}.{count}"
                yield from _unheld(name, slots[kind], slots["empty"])
                seconds = 2 * count * HOLD_SECONDS * TURNS * effort.share
                yield from _held(name, count, run(kind, seconds=seconds, hold=HOLD_SECONDS))


def _unheld(name: str, ours: Sequence[Slot], empty: Sequence[Slot]) -> Iterator[Figure]:
    """What handing the core on costs: the same calls, but one after the other."""
    compare = partial(
        in_turn, against=EMPTY, conditions="hold time 0: each grant waits for a release"
    )
    yield compare(f"{name}.p50", p50s(ours), p50s(empty), unit="us")
    yield compare(f"{name}.throughput", rates(ours), rates(empty), unit="1/s", bound="at least")


def _held(name: str, count: int, slot: Slot) -> Iterator[Figure]:
    waits = [us / 1000 for us in slot.acquires]
    conditions = (
        f"{count} client processes, each holds {HOLD_SECONDS * 1000:g} ms; {len(waits)} grants, "
        f"wait p50 {statistics.median(waits):.0f}, worst {max(waits):.0f} ms; "
        f"the core is held {slot.rate * HOLD_SECONDS:.0%} of the time"
    )
    yield single(
        f"{name}.p99",
        p99(waits),
        2 * count * HOLD_SECONDS * 1000,
        unit="ms",
        against="the bound: 2 x clients x hold time",
        target=1.0,
        conditions=conditions,
    )
    yield single(
        f"{name}.grants",
        min(slot.counts),
        max(slot.counts),
        unit="1",
        against="the client with the fewest grants against the one with the most",
        target=0.5,
        bound="at least",
        conditions="nobody starves; 1 is perfectly fair",
    )
