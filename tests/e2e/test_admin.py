"""An operator with furiosactl at a real broker: what it prints, what it returns, what becomes of clients."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import Availability, LeaseState
from support.clients import Raised, Steered
from support.daemon import FURIOSACTL, Daemon
from support.waiting import until

EMULATED = "furiosactl: these cards are emulated\n"
PE0, PE1 = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:1:0")


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(2)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    yield shared
    with Connection.open(client="test") as connection:
        for npu in (0, 1):
            connection.uncordon(npu)
            connection.acquire(DeviceSpec.parse(f"npu:{npu}"), 60)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Steered]:
    with Steered(daemon.environ) as client:
        yield client


def does(daemon: Daemon, *arguments: str) -> str:
    """What a command says that succeeds."""
    done = daemon.furiosactl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_a_revoked_lease_is_recalled_and_its_owner_finishes(
    daemon: Daemon, client: Steered
) -> None:
    lease = client.ask("acquire('npu:0:0')")
    said = does(daemon, "revoke", lease, "--grace", "50", "--reason", "an upgrade")
    assert re.fullmatch(f"lease {lease} is recalled; it ends in (50|49)s\n", said)
    cause = "revoked by an administrator: an upgrade"
    assert client.ask(f"notice({lease!r})") == [["LeaseRecalledNotice", cause]]
    ((id_, device, state, *_),) = rows(does(daemon, "leases"))
    assert (id_, device, state) == (lease, "npu0pe0", f"recalled ({cause})")
    client.ask(f"connection.release({lease!r})")
    assert rows(does(daemon, "leases")) == []


def test_a_lease_revoked_without_a_grace_is_gone_at_once(daemon: Daemon, client: Steered) -> None:
    lease = client.ask("acquire('npu:0:0')")
    assert does(daemon, "revoke", lease, "--grace", "0") == f"lease {lease} is ended\n"
    assert client.ask(f"notice({lease!r})") == [["LeaseEndedNotice", "revoked by an administrator"]]
    again = daemon.furiosactl("revoke", lease)
    assert again.returncode == 1
    assert again.stderr.endswith(f"lease {lease} has ended: revoked by an administrator\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("revoke", "0123456789ab"), 1, "furiosactl: there is no lease 0123456789ab\n"),
        (("cordon", "7"), 1, "furiosactl: Device npu7 not found\n"),
        (("uncordon", "npu7"), 1, "furiosactl: Device npu7 not found\n"),
        (("drain", "7"), 1, "furiosactl: Device npu7 not found\n"),
        (("cordon", "x"), 2, "'x' is no card: expected e.g. npu0 or 0\n"),
        (("revoke",), 2, "the following arguments are required: LEASE\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    daemon: Daemon, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = daemon.furiosactl(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.endswith(said)
    assert "(unavailable)" not in does(daemon, "list")


async def test_who_waits_for_a_cordoned_card_is_told_and_served_after_uncordon(
    daemon: Daemon, client: Steered
) -> None:
    with Connection.open(client="test") as holder:
        kept = holder.acquire(DeviceSpec.parse("npu:0:1"))
        assert does(daemon, "cordon", "npu0", "--reason", "a new fan") == "npu0 is cordoned\n"
        listed = daemon.furiosactl("list")
        assert rows(listed.stdout)[0][1] == "0 (unavailable), 1 (occupied by npu0pe1)"
        assert listed.stderr == f"{EMULATED}furiosactl: npu0 is cordoned: a new fan\n"
        device = holder.devices()[0]
        assert (device.availability, device.reason) == (Availability.CORDONED, "a new fan")
        with pytest.raises(Raised, match=r"DeviceUnavailable: .* npu0: a new fan"):
            client.ask("acquire('npu:0:0')")
        client.order("acquire('npu:0:0', 60)")
        await until(lambda: len(holder.overview().waiters) == 1)
        (row,) = rows(does(daemon, "leases", "--waiting"))
        assert (row[0], row[1], row[4]) == ("1", "npu:0:0", str(client.pid))
        assert row[-1] == "npu0 is not available: a new fan"
        assert holder.renew(kept.id).state is LeaseState.GRANTED, "what is held stays"
        assert does(daemon, "uncordon", "0") == "npu0 is no longer cordoned\n"
        assert client.answer()


def test_who_does_not_care_gets_another_card(daemon: Daemon, client: Steered) -> None:
    does(daemon, "cordon", "0")
    with Connection.open(client="test") as connection:
        assert str(connection.acquire(DeviceSpec.parse("warboy(1)*1")).device_files[0]) == "npu1pe0"


def test_a_drain_waits_for_the_owner_and_leaves_the_card_cordoned(
    daemon: Daemon, client: Steered
) -> None:
    lease = client.ask("acquire('npu:0:0')")
    command = [sys.executable, "-c", FURIOSACTL, "drain", "npu0", "--grace", "60"]
    draining = subprocess.Popen(command, env=daemon.environ, stdout=subprocess.PIPE, text=True)
    with draining:
        assert client.ask(f"notice({lease!r})") == [["LeaseRecalledNotice", "npu0 is drained"]]
        with pytest.raises(subprocess.TimeoutExpired):
            draining.wait(0.3)
        client.ask(f"connection.release({lease!r})")
        said, _ = draining.communicate()
    assert (draining.returncode, said) == (0, "npu0 is drained; 1 lease revoked\n")
    assert rows(does(daemon, "list"))[0][1] == "0 (unavailable), 1 (unavailable)"
    assert does(daemon, "drain", "0") == "npu0 is drained; 0 leases revoked\n"


def test_a_drain_ends_when_the_grace_of_a_deaf_owner_is_over(
    daemon: Daemon, client: Steered
) -> None:
    with Connection.open(client="test") as onlooker:
        client.ask("acquire('npu:0:0-1')")
        assert does(daemon, "drain", "0", "--grace", "0.5") == "npu0 is drained; 1 lease revoked\n"
        assert onlooker.leases() == ()


async def test_the_queue_is_seen_by_others_in_its_order(daemon: Daemon, client: Steered) -> None:
    with Connection.open(client="test") as holder, Steered(daemon.environ) as second:
        lease = holder.acquire(PE0)
        elsewhere = holder.acquire(PE1)
        client.order("acquire('npu:0:0', 60)")
        await until(lambda: len(holder.overview().waiters) == 1)
        second.order("acquire('npu:0:0', math.inf, priority=1)")
        await until(lambda: len(holder.overview().waiters) == 2)
        with Steered(daemon.environ) as third:
            third.order("acquire('npu:1:0', 60)")
            await until(lambda: len(holder.overview().waiters) == 3)
            found = {row[4]: row for row in rows(does(daemon, "leases", "--waiting"))}
            assert [found[str(c.pid)][0] for c in (second, client, third)] == ["1", "2", "1"]
            assert [found[str(c.pid)][3] for c in (second, client)] == ["1", "0"]
            assert found[str(second.pid)][7] == "-", "waits for ever"
            assert found[str(third.pid)][-1] == f"npu1pe0 is held by lease {elsewhere.id}"
            noted = daemon.furiosactl("leases").stderr
            assert (
                noted
                == f"{EMULATED}furiosactl: 3 requests wait, see `furiosactl leases --waiting`\n"
            )
        await until(lambda: len(holder.overview().waiters) == 2)
        holder.release(lease.id)
        mine = second.answer()
        second.ask(f"connection.release({mine!r})")
        assert client.answer()
