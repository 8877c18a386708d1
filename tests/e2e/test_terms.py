"""How long a lease lasts and whose it is: it expires, is renewed, outlives its connection, is handed on."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import BadArgument, DeviceBusy, LeaseEnded, NotLeaseOwner
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState, LeaseView
from support import digits
from support.clients import Raised, Steered, inherit
from support.daemon import Daemon
from support.waiting import until

RECALLED, ENDED = "LeaseRecalledNotice", "LeaseEndedNotice"
OVER = "its time to live is over"

# For a client that runs programs by hand.
QUEUES = """
import select
from furiosa.queuepair import ClientQueue, Geometry, Submission

def load(lease, path):
    with open(path, "rb") as file:
        return connection.load_program(lease, file.read()).id

def open_queue(lease, file):
    global queue
    descriptors = connection.open_queue(lease, DeviceFile.parse(file), Geometry(4, 16384))[1]
    queue = ClientQueue.attach(descriptors)

def run(program):
    queue.submit(Submission(1, program, 0, 8192))
    return reap()

def reap():  # waits for the worker to complete something, or to let go of the queue
    select.select([queue.completion_fd], [], [])
    return [completion.status.name for completion in queue.reap()]
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(1, "--recall-grace", "1")  # time for what may be done before it is over
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    with Connection.open(client="test") as connection:
        for left in connection.leases():  # by the test before
            with contextlib.suppress(LeaseEnded):
                connection.revoke(left.id, 0)
        lease = connection.acquire(DeviceSpec.parse("npu:0:0-1"), 60)
        connection.release(lease.id)
    return shared


@pytest.fixture
def enf(tmp_path: Path) -> Path:
    path = tmp_path / "digits.enf"
    path.write_bytes(digits.program())
    return path


def lease_of(connection: Connection, lease_id: str) -> LeaseView:
    (found,) = (lease for lease in connection.leases() if lease.id == lease_id)
    return found


def test_a_lease_expires_in_two_phases_and_a_renewed_one_does_not(daemon: Daemon) -> None:
    with Steered(daemon.environ) as owner, Connection.open(client="test") as onlooker:
        renewed = owner.ask("acquire('npu:0:0', time_to_live=0.1)")
        left = owner.ask("acquire('npu:0:1', time_to_live=0.1)")
        assert owner.ask(f"notice({renewed!r})") == [[RECALLED, OVER]]
        assert owner.ask(f"connection.renew({renewed!r}, 60).state.value") == "granted"
        said = owner.ask(f"notice({left!r})")
        while len(said) < 2:
            said += owner.ask(f"notice({left!r})")
        assert said == [[RECALLED, OVER], [ENDED, OVER]]
        with pytest.raises(Raised, match=f"LeaseEnded: .*{OVER}"):
            owner.ask(f"connection.renew({left!r})")
        assert onlooker.acquire(DeviceSpec.parse("npu:0:1"), 60)
        view = lease_of(onlooker, renewed)
        assert (view.state, view.owner.pid) == (LeaseState.GRANTED, owner.pid)
    log = daemon.logged(f"lease.renewed lease={renewed} pid={owner.pid}")
    assert log.count(f"lease.granted lease={renewed}") == 1


def test_an_expiring_lease_still_works(daemon: Daemon, enf: Path) -> None:
    with Steered(daemon.environ) as owner:
        owner.ask(QUEUES)
        lease = owner.ask("acquire('npu:0:0')")
        program = owner.ask(f"load({lease!r}, {str(enf)!r})")
        owner.ask(f"open_queue({lease!r}, 'npu0pe0')")
        owner.ask(f"connection.renew({lease!r}, 0.05)")
        assert owner.ask(f"notice({lease!r}) and run({program})") == ["OK"]


def test_a_lease_that_lingers_is_resumed_by_its_secret_and_by_nothing_else(daemon: Daemon) -> None:
    with Steered(daemon.environ) as first, Steered(daemon.environ) as second:
        lease = first.ask("acquire('npu:0:0', linger=60)")
        secret = first.ask(f"connection.secret({lease!r})")
        first.kill()
        first.process.wait()
        with Connection.open(client="test") as onlooker:
            with pytest.raises(DeviceBusy) as caught:
                onlooker.acquire(DeviceSpec.parse("npu:0:0"))
            assert caught.value.holder_pid == first.pid
            view = lease_of(onlooker, lease)
            assert view.state is LeaseState.DETACHED
            assert view.cause in (f"its process, pid {first.pid}, died", "its process hung up")
            for wrong in ("", "x", secret[:-1], secret.upper()):
                with pytest.raises(Raised, match="NotLeaseOwner"):
                    second.ask(f"connection.resume({lease!r}, {wrong!r})")
            second.ask(f"connection.resume({lease!r}, {secret!r})")
            view = lease_of(onlooker, lease)
            assert (view.state, view.owner.pid, view.ends_at) == (
                LeaseState.GRANTED,
                second.pid,
                None,
            )
        daemon.logged(f"lease.resumed lease={lease} pid={second.pid}")


def test_a_lease_that_nobody_resumes_ends_when_it_has_lingered(daemon: Daemon) -> None:
    with Connection.open(client="test") as owner:
        lease = owner.acquire(DeviceSpec.parse("npu:0:0"), linger=0.05)
    with Connection.open(client="test") as other:
        assert other.acquire(DeviceSpec.parse("npu:0:0"), 60).id != lease.id
    ended = f"lease.ended lease={lease.id}"
    (line,) = (line for line in daemon.logged(ended).splitlines() if ended in line)
    assert 'cause="its process hung up"' in line


def test_programs_outlive_the_connection_and_queues_do_not(daemon: Daemon, enf: Path) -> None:
    with Steered(daemon.environ) as owner:
        owner.ask(QUEUES)
        lease = owner.ask("acquire('npu:0:0', linger=60)")
        program = owner.ask(f"load({lease!r}, {str(enf)!r})")
        owner.ask(f"open_queue({lease!r}, 'npu0pe0')")
        assert owner.ask(f"run({program})") == ["OK"]
        (worker,) = daemon.workers()
        owner.ask("connection.close()")
        with pytest.raises(Raised, match="BrokenQueue"):
            owner.ask("reap()")
        owner.ask("connect()")
        assert owner.ask(f"connection.resume({lease!r}).state.value") == "granted", "no secret"
        owner.ask(f"open_queue({lease!r}, 'npu0pe0')")
        assert owner.ask(f"run({program})") == ["OK"]
        assert daemon.workers() == [worker]


def test_whoever_had_a_lease_cannot_use_it_once_another_has_it(daemon: Daemon, enf: Path) -> None:
    with Steered(daemon.environ) as first, Steered(daemon.environ) as second:
        for client in (first, second):
            client.ask(QUEUES)
        lease = first.ask("acquire('npu:0:0', linger=60)")
        secret = first.ask(f"connection.secret({lease!r})")
        program = first.ask(f"load({lease!r}, {str(enf)!r})")
        first.ask(f"open_queue({lease!r}, 'npu0pe0')")
        second.ask(f"connection.resume({lease!r}, {secret!r})")
        with pytest.raises(Raised, match="BrokenQueue"):
            first.ask("reap()")
        cause = f"it was handed to pid {second.pid}"
        assert first.ask(f"notice({lease!r})") == [[ENDED, cause]]
        for order in (f"open_queue({lease!r}, 'npu0pe0')", f"connection.release({lease!r})"):
            with pytest.raises(Raised, match="NotLeaseOwner"):
                first.ask(order)
        second.ask(f"open_queue({lease!r}, 'npu0pe0')")
        assert second.ask(f"run({program})") == ["OK"]


def test_a_lease_goes_to_a_child_that_has_its_own_connection(daemon: Daemon) -> None:
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=inherit, args=(its,))
    process.start()
    assert mine.recv() == "here"
    with Connection.open(client="parent") as parent:
        lease = parent.acquire(DeviceSpec.parse("npu:0:0"))
        assert process.pid is not None
        assert parent.transfer(lease.id, process.pid).owner.pid == process.pid
        with pytest.raises(NotLeaseOwner):
            parent.release(lease.id)
        mine.send(lease.id)
        assert mine.recv() == (process.pid, LeaseState.GRANTED)
        assert parent.acquire(DeviceSpec.parse("npu:0:0"), 60)
    process.join()
    assert process.exitcode == 0


CHILD = """
import signal, sys
from furiosa.client.sync import Connection
signal.alarm(60)  # never outlives its test for long
connection = Connection.open(client="test")
print("connected", flush=True)
open({end!r}).read()
"""


def test_the_child_s_lease_outlives_the_parent(daemon: Daemon, tmp_path: Path) -> None:
    end = tmp_path / "end"
    os.mkfifo(end)
    with Steered(daemon.environ) as parent, Connection.open(client="test") as onlooker:
        lease = parent.ask("acquire('npu:0:0')")
        script = CHILD.format(end=str(end))
        parent.order(
            f"import subprocess; child = subprocess.Popen([sys.executable, '-c', {script!r}])"
        )
        assert {parent.line(), parent.line()} == {"connected", '[null, null, ""]'}
        heir = parent.ask("child.pid")
        parent.ask(f"connection.transfer({lease!r}, {heir})")
        parent.kill()
        parent.process.wait()
        with pytest.raises(DeviceBusy) as caught:
            onlooker.acquire(DeviceSpec.parse("npu:0:0"))
        assert caught.value.holder_pid == heir
        assert lease_of(onlooker, lease).state is LeaseState.GRANTED
        end.write_text("")
        assert onlooker.acquire(DeviceSpec.parse("npu:0:0"), 60)


def test_a_lease_is_handed_to_no_stranger(daemon: Daemon) -> None:
    idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with idle, Steered(daemon.environ) as owner, Connection.open(client="test") as onlooker:
        lease = owner.ask("acquire('npu:0:0')")
        parent = lease_of(onlooker, lease).owner.pid
        with pytest.raises(Raised, match=f"BadArgument: .* expected a descendant of pid {parent}"):
            owner.ask(f"connection.transfer({lease!r}, os.getppid())")
        with pytest.raises(Raised, match="expected a process with a session of its own"):
            owner.ask(f"connection.transfer({lease!r}, {idle.pid})")
        mine = onlooker.acquire(DeviceSpec.parse("npu:0:1"))
        with pytest.raises(BadArgument, match="a session of its own"):
            onlooker.transfer(mine.id, idle.pid)  # a child, but it never connected
        with pytest.raises(NotLeaseOwner):
            onlooker.transfer(lease, owner.pid)
        idle.communicate(b"\n")


async def test_a_stopped_owner_keeps_its_lease_until_its_time_is_over(daemon: Daemon) -> None:
    with Steered(daemon.environ) as owner, Connection.open(client="test") as other:
        kept = owner.ask("acquire('npu:0:0')")
        limited = owner.ask("acquire('npu:0:1', time_to_live=0.1)")
        owner.process.send_signal(signal.SIGSTOP)
        await until(lambda: Path(f"/proc/{owner.pid}/stat").read_text().split()[2] == "T")
        assert other.acquire(DeviceSpec.parse("npu:0:1"), 60)
        assert lease_of(other, kept).state is LeaseState.GRANTED
        owner.process.send_signal(signal.SIGCONT)
        assert owner.ask(f"notice({limited!r})")[-1] == [ENDED, OVER]
        assert owner.ask(f"connection.renew({kept!r}).state.value") == "granted"
