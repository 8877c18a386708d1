"""What was under way when the broker became a new one: waiting, watching, loading, running."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseOverview, ProgramView
from furiosa.runtime.sync import FuriosaRuntimeError, create_runner
from support import digits
from support.daemon import Daemon
from support.replacing import ready, replaced

PE0, PE1, BOTH = (DeviceSpec.parse(f"npu:0:{cores}") for cores in ("0", "1", "0-1"))

InThread = Callable[[Callable[[], object]], threading.Thread]


def has_program(daemon: Daemon) -> bool:
    folder = Path(f"/proc/{daemon.pid}/fd")
    return any("memfd:enf" in os.readlink(entry) for entry in folder.iterdir())


def waiting(connection: Connection, count: int) -> LeaseOverview:
    """The overview, once so many wait."""
    while len((overview := connection.overview()).waiters) != count:
        pass
    return overview


def test_those_who_wait_keep_their_order_and_since_when_they_have_waited(
    daemon: Daemon, in_thread: InThread
) -> None:
    got: list[str] = []

    def wait(name: str, spec: DeviceSpec) -> None:
        with Connection.open(client=name) as waiter:
            lease = waiter.acquire(spec, wait_limit=300)
            got.append(name)
            waiter.release(lease.id)

    names = [f"waiter {number}" for number in range(8)]
    with Connection.open(client="holder") as holder:
        lease = holder.acquire(BOTH)
        waiters = []
        for number, name in enumerate(names):
            spec = (PE0, BOTH)[number % 2]  # a small one behind a big one must not overtake it
            waiters.append(in_thread(lambda name=name, spec=spec: wait(name, spec)))  # type: ignore[misc]
            before = waiting(holder, number + 1)
        replaced(daemon, 2)
        after = waiting(holder, len(names))
        for was, now in zip(before.waiters, after.waiters, strict=True):
            assert (now.session, now.device_spec) == (was.session, was.device_spec)
            assert now.since == pytest.approx(was.since, abs=0.1)
            assert now.deadline == pytest.approx(was.deadline, abs=0.1)
        assert got == []
        holder.release(lease.id)
        for thread in waiters:
            thread.join()
        assert got == names
        assert holder.leases() == ()


def test_one_connection_may_have_many_who_wait(daemon: Daemon, in_thread: InThread) -> None:
    with Connection.open(client="holder") as holder, Connection.open(client="waiters") as waiters:
        lease = holder.acquire(PE0)
        got: list[str] = []
        for number in range(5):
            in_thread(lambda: got.append(waiters.acquire(PE0, wait_limit=300).id))
            waiting(holder, number + 1)
        replaced(daemon)
        waiting(holder, 5)
        holder.release(lease.id)
        for left in range(4, -1, -1):
            (held,) = waiting(holder, left).leases
            while held.id not in got:
                pass
            waiters.release(held.id)
        assert len(set(got)) == 5


def test_a_wait_limit_ends_the_wait_after_a_replacement(
    daemon: Daemon, in_thread: InThread
) -> None:
    with Connection.open(client="holder") as holder, Connection.open(client="waiter") as waiter:
        holder.acquire(PE0)
        raised: list[type[Exception]] = []

        def wait() -> None:
            try:
                waiter.acquire(PE0, wait_limit=2)
            except Exception as exc:
                raised.append(type(exc))

        thread = in_thread(wait)
        while not holder.overview().waiters and not raised:
            pass
        replaced(daemon)
        thread.join()
        assert raised == [DeviceBusy]


def test_a_rate_limit_does_not_count_what_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_thread: InThread
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(
        '[defaults]\nacquires-per-second = 0.001\nburst = 4\n[unmatched]\npolicy = "own-tenant"\n'
    )
    daemon = Daemon(1, "--tenants", str(tenants))
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    try:
        with Connection.open(client="holder") as holder, Connection.open(client="waits") as waits:
            lease = holder.acquire(PE0)
            threads = [
                in_thread(lambda: waits.release(waits.acquire(PE0, wait_limit=300).id))
                for _ in range(3)
            ]
            waiting(holder, 3)
            replaced(daemon, 2)
            waiting(holder, 3)
            holder.release(lease.id)
            for thread in threads:
                thread.join()
    finally:
        daemon.stop()


def test_a_watch_goes_on(daemon: Daemon) -> None:
    with Connection.open(client="watcher") as watcher, Connection.open(client="other") as other:
        with watcher.watch_leases() as leases:
            first = next(leases)
            assert first.leases == ()
            replaced(daemon)
            lease = other.acquire(PE0)
            while not (seen := next(leases)).leases:
                pass
            assert [found.id for found in seen.leases] == [lease.id]
            assert seen.revision > first.revision
        other.release(lease.id)


def test_a_program_that_is_being_loaded_is_loaded_by_the_successor(
    daemon: Daemon, in_thread: InThread
) -> None:
    with Connection.open(client="loader") as loader:
        lease = loader.acquire(PE0)
        loader.load_program(lease.id, digits.program())
        while has_program(daemon):  # until the broker has let go of it
            pass
        [worker] = daemon.workers()
        os.kill(worker, signal.SIGSTOP)  # the next load would go on for ever
        programs: list[ProgramView] = []
        thread = in_thread(lambda: programs.append(loader.load_program(lease.id, digits.program())))
        while not has_program(daemon):
            pass
        replaced(daemon)
        thread.join()
        [program] = programs
        assert program.lease_id == lease.id
        loader.unload_program(lease.id, program.id)


@pytest.mark.parametrize("callers", [1, 3])
def test_a_runner_goes_on_and_only_runs_in_flight_are_lost(
    daemon: Daemon, in_thread: InThread, callers: int
) -> None:
    lost: Counter[int] = Counter()
    done: Counter[int] = Counter()
    stop = threading.Event()
    with create_runner(digits.program(), device="npu:0:0") as runner:
        inputs = [np.zeros(desc.shape, desc.numpy_dtype) for desc in runner.model.inputs()]
        expected = runner.run(inputs)

        def run(caller: int) -> None:
            while not stop.is_set():
                try:
                    outputs = runner.run(inputs)
                except FuriosaRuntimeError as exc:
                    lost[caller] += "the broker was replaced" in str(exc)
                else:
                    assert all(map(np.array_equal, outputs, expected))
                    done[caller] += 1

        threads = [in_thread(lambda caller=caller: run(caller)) for caller in range(callers)]  # type: ignore[misc]
        for count in (2, 3):
            daemon.signal(signal.SIGUSR2)
            ready(daemon, count)
            before = done.copy()
            while any(done[caller] <= before[caller] for caller in range(callers)):
                assert all(thread.is_alive() for thread in threads)
        stop.set()
        for thread in threads:
            thread.join()
        assert all(lost[caller] <= 2 for caller in range(callers)), "once for each replacement"
