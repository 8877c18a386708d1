"""The broker itself under a real systemd: the units of deploy/, virtual cards, clients beside it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import digits, systemd
from support.clients import RUN, STEERED, Client, Raised, Steered
from support.fleet import FLEET
from support.systemd import Systemd

pytestmark = pytest.mark.skipif(systemd.missing() is not None, reason=str(systemd.missing()))

UNIT = "furiosa-brokerd.service"
SOCKETS = ("furiosa-brokerd.socket", "furiosa-brokerd-handoff.socket")
CARDS = 32
HOLDERS, WAITERS = 60, 40


@pytest.fixture(scope="module")
def machine() -> Iterator[Systemd]:
    machine = Systemd()
    try:
        machine.install(
            f"Environment=FURIOSA_BROKERD_EMULATE={CARDS} FURIOSA_BROKERD_DRAIN_GRACE=0.5",
            f"Environment=FURIOSA_BROKERD_TENANTS={machine.folder}/tenants.toml",
            "WatchdogSec=5",
        )
        tenants(machine, "everybody")
        machine.start()
        machine.run("systemd-sysusers", systemd.DEPLOY / "sysusers.d/furiosa.conf")
        machine.systemctl("start", *SOCKETS)
        yield machine
    finally:
        machine.stop()


class Inside(Steered):
    """A client beside the units; `nsenter` is its parent."""

    def __init__(self, machine: Systemd, script: str = f"uid = None\n{STEERED}") -> None:
        self.process = subprocess.Popen(
            machine.command(sys.executable, "-c", script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

    def __exit__(self, *_: object) -> None:
        self.kill()
        super().__exit__()


@pytest.fixture
def client(machine: Systemd) -> Iterator[Callable[[], Inside]]:
    """Starts one that has a connection."""
    machine.systemctl("reset-failed", UNIT)  # each test may start it often
    with contextlib.ExitStack() as stack:

        def connected() -> Inside:
            client = Inside(machine)
            stack.enter_context(client)
            client.ask("connect()")
            return client

        yield connected


@pytest.fixture
def fleet(client: Callable[[], Inside]) -> Inside:
    """With `fleet`, a hundred of them."""
    made = client()
    made.ask(FLEET)
    made.ask(f"fleet = Fleet({HOLDERS}, {WAITERS})")
    return made


def tenants(machine: Systemd, name: str) -> None:
    text = f'[unmatched]\npolicy = "refuse"\n[[tenant]]\nname = "{name}"\nmatch = [{{ uid = 0 }}]\n'
    (machine.folder / "tenants.toml").write_text(f"{text}admin = true\n")


def ready(machine: Systemd) -> str:
    """Its main process, once it is ready."""
    machine.shows("ActiveState", "active")
    return machine.show("MainPID")


def test_the_first_client_starts_the_broker(machine: Systemd, client: Callable[[], Inside]) -> None:
    assert machine.show("ActiveState") == "inactive"
    owner = client()
    assert len(owner.ask("[str(d) for d in connection.devices()]")) == CARDS
    ready(machine)
    assert machine.show("StatusText") == f"{CARDS} cards, 0 sessions kept"


def kept(machine: Systemd, fleet: Inside, replace: Callable[[], object]) -> None:
    """`replace` happens, and nobody notices: neither the hundred nor who comes meanwhile."""
    ready(machine)
    before = fleet.ask("fleet.state()")
    assert len(before[0]) == HOLDERS
    assert len(before[1]) == WAITERS
    fleet.ask("visitors = Visitors()")
    assert fleet.ask("visitors.seen(1)") == []
    replace()
    assert fleet.ask("visitors.seen(2)") == []
    ready(machine)
    assert fleet.ask("visitors.end()") == []
    assert fleet.ask("fleet.state()") == before
    assert machine.show("NFileDescriptorStore") == "0"
    assert fleet.ask("fleet.serve()") == [list(range(WAITERS)), []]
    fleet.ask("fleet.close()")
    assert fleet.ask("[l.id for l in connection.leases()]") == []


def test_a_restart_keeps_all_sessions_leases_and_those_who_wait(
    machine: Systemd, fleet: Inside
) -> None:
    before = ready(machine)
    kept(machine, fleet, lambda: machine.systemctl("restart", UNIT))
    assert machine.show("MainPID") != before


def test_a_new_program_in_the_same_process_keeps_all_sessions_leases_and_those_who_wait(
    machine: Systemd, fleet: Inside
) -> None:
    before, restarts = ready(machine), machine.show("NRestarts")

    def replace() -> None:
        for count in range(2):
            said = machine.log.count("broker.ready")
            machine.systemctl("kill", "--kill-whom=main", f"--signal={signal.SIGUSR2:d}", UNIT)
            machine.logged("broker.ready", said + 1)
            assert machine.show("MainPID") == before, count

    kept(machine, fleet, replace)
    assert machine.show("NRestarts") == restarts


def test_a_runner_goes_on_after_a_restart(
    machine: Systemd, client: Callable[[], Inside], enf: Path
) -> None:
    user = client()
    user.ask(
        f"from furiosa.runtime.sync import create_runner; enf = open({str(enf)!r}, 'rb').read()"
    )
    user.ask("import numpy; runner = create_runner(enf, device='npu:0:0')")
    user.ask("inputs = [numpy.zeros(t.shape, t.numpy_dtype) for t in runner.model.inputs()]")
    user.ask("expected = runner.run(inputs)")
    machine.systemctl("restart", UNIT)
    assert user.ask("all(map(numpy.array_equal, runner.run(inputs), expected))") is True


def test_the_death_of_an_owner_from_before_a_restart_is_noticed(
    machine: Systemd, client: Callable[[], Inside]
) -> None:
    owner, other = client(), client()
    owner.ask("acquire('npu:0:0-1')")
    machine.systemctl("restart", UNIT)
    owner.kill()
    assert other.ask("acquire('npu:0:0-1', wait_limit=60)")


def test_a_start_that_fails_leaves_the_sessions_to_the_next_one(
    machine: Systemd, client: Callable[[], Inside]
) -> None:
    owner = client()
    lease = owner.ask("acquire('npu:0:0')")
    ready(machine)
    (machine.folder / "tenants.toml").write_text("[")
    machine.run("systemctl", "restart", UNIT, check=False)
    machine.logged("the tenants file cannot be used")
    tenants(machine, "everybody")
    ready(machine)
    assert owner.ask("[l.id for l in connection.leases()]") == [lease]


def test_a_stop_ends_leases_and_connections_and_the_next_client_starts_it_again(
    machine: Systemd, client: Callable[[], Inside]
) -> None:
    owner = client()
    lease = owner.ask("acquire('npu:0:0-1')")
    owner.order(f"[notice({lease!r}) for _ in range(2)]")
    machine.systemctl("stop", UNIT)
    assert machine.show("ActiveState") == "inactive"
    assert owner.answer() == [
        [["LeaseRecalledNotice", "the broker is shutting down"]],
        [["LeaseEndedNotice", "the broker is shutting down"]],
    ]
    with pytest.raises(Raised, match="BrokerUnavailable"):
        owner.ask("connection.leases()")
    assert client().ask("acquire('npu:0:0-1')") != lease


def test_a_reload_reads_the_tenants_anew(machine: Systemd, client: Callable[[], Inside]) -> None:
    user = client()
    before = ready(machine)
    tenants(machine, "others")
    machine.systemctl("reload", UNIT)
    name = "[l.tenant for l in connection.leases()]"
    user.ask("acquire('npu:0:0')")
    while user.ask(name) != ["others"]:
        user.ask("connection.release(connection.leases()[0].id)")
        user.ask("acquire('npu:0:0')")
    assert machine.show("ActiveState") == "active"
    assert machine.show("MainPID") == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_broker_that_is_killed_or_hangs_is_started_again_and_keeps_the_leases_of_the_living(
    machine: Systemd, client: Callable[[], Inside], number: signal.Signals
) -> None:
    living, mortal = client(), client()
    lease = living.ask("acquire('npu:0:0-1')")
    mortal.ask("acquire('npu:1:0-1')")
    before = ready(machine)
    machine.run("kill", f"-{number:d}", before)  # systemd's watchdog sees to one that hangs
    mortal.kill()
    # at no moment is anybody refused: the sockets are systemd's
    with pytest.raises(Raised, match="BrokerUnavailable"):
        living.ask("connection.wait((), None)")
    living.ask("connect()")
    assert ready(machine) != before
    assert living.ask("[[l.id, l.state.value] for l in connection.leases()]") == [
        [lease, "detached"]
    ]
    assert living.ask(f"connection.resume({lease!r}).state.value") == "granted"
    assert living.ask("acquire('npu:1:0-1')"), "of one who died while there was no broker"


@pytest.fixture
def enf(machine: Systemd) -> Path:
    path = machine.folder / "digits.enf"
    path.write_bytes(digits.program())
    return path


def test_the_sandbox_of_the_unit_leaves_workers_theirs(machine: Systemd, enf: Path) -> None:
    with Inside(machine, RUN.format(enf=str(enf), spec="npu:0:0")) as client:
        assert Client.line(client) == "running", machine.log
        broker = machine.path(f"/proc/{ready(machine)}")
        [worker] = machine.run("pgrep", "--full", "^furiosa-worker").stdout.split()
        process = machine.path(f"/proc/{worker}")
        for namespace in ("mnt", "net", "ipc", "pid"):
            ours, theirs = broker / "ns" / namespace, process / "ns" / namespace
            assert theirs.readlink() != ours.readlink()
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
        )
        assert status["CapEff"] == "0000000000000000"
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        uid = machine.run("id", "--user", "furiosa-worker").stdout.strip()
        assert status["Uid"].split() == [uid] * 4
        mounts = (process / "mountinfo").read_text().splitlines()
        assert {line.split()[5].split(",")[0] for line in mounts} == {"ro"}
