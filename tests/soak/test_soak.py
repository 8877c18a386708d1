"""Random clients and a broker that is killed again and again: nothing is granted twice, nothing leaks.

FURIOSA_SOAK_SECONDS says for how long, FURIOSA_SOAK_SEED which run to repeat; the order in which the
kernel runs the processes is not repeated with it.
"""

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest

from furiosa.enf import write
from furiosa.vnpu.interpreter import Interpreter
from support.daemon import Daemon
from support.programs import a_program, inputs_for
from support.soak import CARDS, GRACE_SECONDS, Soak
from support.soak_client import Trial
from support.soak_leaks import descriptors_of

SECONDS = float(os.environ.get("FURIOSA_SOAK_SECONDS", "12"))
GROWTH_MEGABYTES = 3.0  # of the broker's memory from one settled state to another: fragmentation


@pytest.fixture
def trial() -> Trial:
    program = a_program(target="warboy")
    (given,) = inputs_for(program, np.random.default_rng(0))
    (expected,) = Interpreter(program).run([given])
    return Trial(write(program), given.tobytes(), expected.tobytes())


@pytest.fixture
def seed() -> int:
    text = os.environ.get("FURIOSA_SOAK_SEED", "")
    seed = int(text) if text else random.SystemRandom().getrandbits(32)
    print(f"FURIOSA_SOAK_SEED={seed}")  # noqa: T201  # shown when the test fails
    return seed


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch, trial: Trial, seed: int) -> Iterator[Soak]:
    daemon = Daemon(CARDS, "--reconnect-grace", str(GRACE_SECONDS))
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    made = Soak(daemon, trial, seed, GRACE_SECONDS)
    made.referee.start()
    yield made
    made.close()
    daemon.stop()


@pytest.mark.timeout(2 * SECONDS + 240)
def test_whoever_dies_nothing_is_granted_twice_and_nothing_leaks(soak: Soak) -> None:
    soak.chaos(SECONDS / 2, kill_broker=True)
    soak.chaos(SECONDS / 4, kill_broker=False)  # what a new broker remembers by design, it has then
    soak.calm()
    kept, megabytes = soak.settled(), soak.megabytes()
    own = descriptors_of(os.getpid())

    soak.chaos(SECONDS / 4, kill_broker=False)
    soak.calm()
    assert soak.settled() == kept, soak.story()
    assert soak.megabytes() <= megabytes + GROWTH_MEGABYTES, soak.story()
    assert descriptors_of(os.getpid()) == own

    violations = "\n".join(soak.referee.violations)
    assert not violations, f"{violations}\n{soak.story()}"
    for event in ("claim", "drop", "ran", "renewed", "kept"):
        assert soak.referee.counts[event], f"the soak did too little: {soak.referee.counts}"
    assert soak.kills, "the broker was never killed"
