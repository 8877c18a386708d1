"""One tenant at full speed, and what another's acquire takes meanwhile.

The first is another user with 16 connections over which it asks and gives back without a pause: one
call at a time on each, or many at once. The second asks for a core of its own over the handoff socket,
and is measured with the flood and without it, in turn.
"""

import json
import os
import pwd
import statistics
import subprocess
import time
from collections.abc import Iterator
from functools import partial

from benchmarks import broker
from benchmarks.cores import SERVER, pin
from benchmarks.efforts import Effort
from benchmarks.figures import Found, Skipped, in_turn, p99
from benchmarks.load import clients, line, python, stop, tell

CONNECTIONS = 16
DEPTHS = {"one_by_one": 1, "at_once": 64}  # calls that each connection keeps open
TARGET = 5.0
DEVICE = "npu:0:0"


def figures(effort: Effort) -> Iterator[Found]:
    if os.geteuid() != 0:
        yield Skipped("acquire.flood.*", "only root can be two users")
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    with broker.running(1 + CONNECTIONS // 2, broker.EVERYBODY) as server, clients(1) as load:
        pin(server.pid, SERVER)
        flooder = python("benchmarks.flooder", str(nobody), str(CONNECTIONS))
        try:
            if line(flooder) != "connected\n":
                raise RuntimeError("the flooder cannot connect")
            run = partial(
                load.run, "handoff", [DEVICE], server=server.pid, seconds=effort.slot_seconds
            )
            for name, depth in DEPTHS.items():
                alone, flooded, rates = [], [], []
                for _ in range(effort.slots):
                    alone.append(run())
                    before, began = _order(flooder, depth), time.monotonic()
                    flooded.append(run())
                    calls = _order(flooder, 0) - before
                    rates.append(calls / (time.monotonic() - began))
                rate = f"{CONNECTIONS} connections with {depth} calls open, {statistics.median(rates):,.0f}/s"
                for quantity, of in (("p50", statistics.median), ("p99", p99)):
                    yield in_turn(
                        f"acquire.flood.{name}.{quantity}",
                        [of(slot.cycles) for slot in flooded],
                        [of(slot.cycles) for slot in alone],
                        unit="us",
                        against="the same without the other tenant",
                        target=TARGET,
                        conditions=rate,
                    )
        finally:
            stop(flooder)


def _order(flooder: subprocess.Popen[str], depth: int) -> int:
    """How many calls it has made so far."""
    tell(flooder, depth)
    return int(json.loads(line(flooder)))
