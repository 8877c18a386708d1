"""A broker among clients that do what they like, and a hand that kills them and it at random."""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from support.daemon import Daemon
from support.soak_client import Trial
from support.soak_leaks import Kept, kept_by, private_megabytes
from support.soak_referee import Referee

CARDS = 4
CLIENTS = 8
GRACE_SECONDS = 3.0  # that owners have to come back after the broker was killed
SETTLE_SECONDS = 60.0  # for what must happen at some time, on a slow machine
CODE = "from support.soak_client import main; main()"


@dataclass(slots=True)
class Running:
    """A client process. `stopped_until`: when it gets SIGCONT; 0: it is not stopped."""

    process: "subprocess.Popen[bytes]"
    log: Path
    stopped_until: float = 0.0


class Soak:
    """`events` says what was done, in order; with `seed` it tells how to get there again."""

    def __init__(self, daemon: Daemon, trial: Trial, seed: int, grace: float) -> None:
        self.events: list[str] = []
        self.kills = 0  # of brokers
        self.daemon = daemon
        self.referee = Referee(daemon.folder / "referee", grace)
        self._folder = daemon.folder
        self._random = random.Random(seed)
        self._clients: list[Running] = []
        self._started = 0
        trial.write(self._folder)

    def chaos(self, seconds: float, *, kill_broker: bool) -> None:
        """Clients come and go for so long. In the last second of it the broker is spared."""
        now = time.monotonic()
        ends, spared = now + seconds, now + seconds - 1
        next_kill = now + 1
        while (now := time.monotonic()) < ends:
            while len(self._clients) < CLIENTS:
                self._start_client()
            self._wake(now)
            if kill_broker and next_kill < now < spared:
                self._kill_broker()
                next_kill = time.monotonic() + self._random.uniform(0.5, 2.5)
            match self._random.randrange(8):
                case 0:
                    self._kill_client()
                case 1:
                    self._stop_client(now)
            self._reap()
            time.sleep(self._random.uniform(0.01, 0.1))

    def calm(self) -> None:
        """All clients finish in good order."""
        self._wake(float("inf"))
        for client in self._clients:
            client.process.send_signal(signal.SIGTERM)
        self._until(self._all_gone, "clients do not finish")

    def settled(self) -> Kept:
        """Nothing is held any more, everything can be had, and that is what the broker keeps then, with
        one connection."""
        with Connection.open(client="soak") as connection:
            self._until(lambda: not connection.leases(), "leases are left")
            everything = DeviceSpec.parse(f"warboy(1)*{2 * CARDS}")
            connection.release(connection.acquire(everything).id)
            self._until(lambda: not self.daemon.workers(), "workers are left")
            self._until(lambda: self._sessions() == 1, "sessions are left")
            connection.leases()  # whatever ended a session has been done by the time of the answer
            return kept_by((self.daemon.pid, *self.daemon.descendants()))

    def _sessions(self) -> int:
        """Of the running broker, by its log."""
        log = self.daemon.log.rpartition(" broker.devices ")[2]
        return log.count(" session.opened ") - log.count(" session.ended ")

    def megabytes(self) -> float:
        return private_megabytes(self.daemon.pid)

    def close(self) -> None:
        for client in self._clients:
            client.process.kill()
            client.process.wait()
        self.referee.stop()

    def _start_client(self) -> None:
        seed = self._random.getrandbits(32)
        self._started += 1
        log = self._folder / f"client{self._started}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, str(seed), self._folder, self._folder / "referee"],
                env={
                    **self.daemon.environ,
                    "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                stderr=file,
            )
        self._clients.append(Running(process, log))
        self._note(f"client {process.pid} seed {seed}")

    def _kill_client(self) -> None:
        client = self._random.choice(self._clients)
        self._note(f"kill client {client.process.pid}")
        client.process.kill()

    def _stop_client(self, now: float) -> None:
        """Some sleep longer than the grace that they have to come back."""
        client = self._random.choice(self._clients)
        if not client.stopped_until:
            seconds = self._random.choice((0.05, 0.05, 0.1, 0.1, 0.3, 0.3, 1.0, GRACE_SECONDS + 2))
            client.stopped_until = now + seconds
            self._note(f"stop client {client.process.pid} for {seconds} s")
            client.process.send_signal(signal.SIGSTOP)

    def _wake(self, now: float) -> None:
        for client in self._clients:
            if 0 < client.stopped_until <= now:
                client.stopped_until = 0.0
                client.process.send_signal(signal.SIGCONT)

    def _kill_broker(self) -> None:
        children = self.daemon.open_descendants()
        self._note(f"kill broker {self.daemon.pid}")
        self.referee.broker_killed(self.daemon.pid)
        self.daemon.signal(signal.SIGKILL)
        self.daemon.wait()
        for pidfd in children:
            if not select.select([pidfd], [], [], SETTLE_SECONDS)[0]:
                raise AssertionError(f"a process outlives its broker; {self.story()}")
            os.close(pidfd)
        time.sleep(self._random.choice((0.0, 0.0, 0.3)))
        self.referee.broker_starts()
        self.daemon.start()
        self.kills += 1
        self._note(f"broker {self.daemon.pid}")

    def _reap(self) -> None:
        for client in tuple(self._clients):
            code = client.process.poll()
            if code is None:
                continue
            self._clients.remove(client)
            # SIGTERM: before it was ready to take that as the order to finish
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM):
                said = f"client {client.process.pid} ended with {code}: {client.log.read_text()}"
                raise AssertionError(f"{said}\n{self.story()}")
            client.log.unlink()

    def _all_gone(self) -> bool:
        self._reap()
        return not self._clients

    def _until(self, condition: Callable[[], bool], complaint: str | Callable[[], str]) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                said = complaint if isinstance(complaint, str) else complaint()
                raise AssertionError(f"{said}\n{self.story()}")
            time.sleep(0.01)

    def _note(self, what: str) -> None:
        self.events.append(f"{time.monotonic():.3f} {what}")

    def story(self) -> str:
        with contextlib.suppress(OSError):
            log = self.daemon.log.splitlines()[-20:]
            return "\n".join((*self.events[-40:], *log))
        return "\n".join(self.events[-40:])
