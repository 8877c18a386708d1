"""How long a command takes that people type all day, from its start to its end."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import broker, tcp
from benchmarks.efforts import Effort
from benchmarks.figures import Found, beside

COMMAND = (str(Path(sys.executable).with_name("furiosactl")),)
NOTHING = (sys.executable, "-c", "pass")
TIMES, MORE_MS = 1.5, 30.0  # of a local command, beside the interpreter alone
REMOTE_MS = 250.0


def figures(effort: Effort) -> Iterator[Found]:
    rounds = max(effort.rounds // 50, 10)
    with broker.running():
        yield _local("list", rounds)
    with (
        tcp.listener() as listener,
        broker.running(2, ("--embedded",), "--data-plane", "on", *listener.settings),
        listener.used(),
    ):
        yield _remote(rounds)


def _local(command: str, rounds: int) -> Found:
    ours, bounds = [], []
    for _ in range(rounds):
        bounds.append(TIMES * _ms(NOTHING) + MORE_MS)
        ours.append(_ms((*COMMAND, command)))
    return beside(
        f"cli.{command}.local",
        ours,
        bounds,
        unit="ms",
        against=f"{TIMES} times `python -c pass` and {MORE_MS:.0f} ms",
        target=1.0,
        conditions=f"{rounds} processes of each, in turn",
    )


def _remote(rounds: int) -> Found:
    return beside(
        "cli.list.remote",
        [_ms((*COMMAND, "list")) for _ in range(rounds)],
        [REMOTE_MS],
        unit="ms",
        against="the bound",
        target=1.0,
        conditions=f"{rounds} processes; a token, by TCP of this machine",
    )


def _ms(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1e3
