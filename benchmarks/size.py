"""What a lease costs on a big node: brokers of all sizes run at once and take turns, with one client each.

Over the handoff socket, where little else is in the figure.
"""

import contextlib
import statistics
from collections.abc import Iterator
from functools import partial

from benchmarks import broker
from benchmarks.cores import SERVER, pin
from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, in_turn
from benchmarks.load import clients

SIZES = (1, 8, 64, 512)
BASE = 8
TARGET = 1.5
MAX_NAMED = 255  # the highest card that a device specification can name


def specs(cards: int) -> dict[str, str]:
    """A certain core of a node, and any core."""
    return {"named": f"npu:{min(cards - 1, MAX_NAMED)}:1", "any": "warboy(1)*1"}


def figures(effort: Effort) -> Iterator[Found]:
    with contextlib.ExitStack() as stack:
        runs = {}
        for size in SIZES:
            try:
                server = stack.enter_context(broker.running(size))
            except broker.NotStarted as exc:
                yield Skipped(f"acquire.size.{size}_cards.*", str(exc))
                continue
            pin(server.pid, SERVER)
            load = stack.enter_context(clients(1))
            runs[size] = partial(load.run, "handoff", server=server.pid)
        for name in ("named", "any"):
            p50s: dict[int, list[float]] = {size: [] for size in runs}
            for turn in range(effort.slots + 1):
                for size, run in runs.items():
                    slot = run([specs(size)[name]], seconds=effort.slot_seconds / 2)
                    if turn:  # the first warms up
                        p50s[size].append(statistics.median(slot.cycles))
            for size in runs:
                if size != BASE:
                    yield in_turn(
                        f"acquire.size.{size}_cards.{name}",
                        p50s[size],
                        p50s[BASE],
                        unit="us",
                        against=f"the same on {BASE} cards",
                        target=TARGET if size == SIZES[-1] else None,
                        conditions=f"p50 of acquire and release of {specs(size)[name]}, nothing else held",
                    )
