"""What a tenants file makes of clients that are different users, and what happens when it changes."""

import os
import signal
from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import NotAllowed
from furiosa.common.selector import DeviceSpec
from support.clients import Raised, Steered
from support.daemon import Daemon
from support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes several users")

# Each test has users and, where it matters which, a card of its own.
CAPPED, QUEUER, LOADER, HASTY, LOW, HIGH, TAKER, PLAIN, OPERATOR, STRANGER = range(61_001, 61_011)

RULES = f"""
[unmatched]
policy = "refuse"

[[tenant]]
name = "capped"
match = [{{ uid = {CAPPED} }}]
cards = [0]
max-cores = 1

[[tenant]]
name = "queuer"
match = [{{ gid = {QUEUER} }}]
max-waiting = 1

[[tenant]]
name = "loader"
match = [{{ uid = {LOADER} }}]
max-program-bytes = 1000

[[tenant]]
name = "hasty"
match = [{{ uid = {HASTY} }}]
acquires-per-second = 0.01
burst = 2

[[tenant]]
name = "low"
match = [{{ uid = {LOW} }}]
max-priority = 5

[[tenant]]
name = "high"
match = [{{ uid = {HIGH} }}]
priority = 7

[[tenant]]
name = "taker"
match = [{{ uid = {TAKER} }}]
priority = 6
may-preempt = true

[[tenant]]
name = "plain"
match = [{{ uid = {PLAIN} }}]

[[tenant]]
name = "operators"
match = [{{ uid = {OPERATOR} }}]
admin = true
"""


class TenantsDaemon(Daemon):
    def __init__(self, rules: str, *settings: str) -> None:
        super().__init__(4, *settings, embedded=False)
        self.rules = self.folder / "tenants.toml"
        self.rules.write_text(rules)
        self.set("--tenants", str(self.rules))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    daemon = TenantsDaemon(RULES, "--recall-grace", "60")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def onlooker(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    with Connection.open(client="test") as connection:
        yield connection


def reason_of(connection: Connection, tenant: str) -> str:
    """Why the only request of a tenant waits; empty: it does not."""
    reasons = [waiter.reason for waiter in connection.overview().waiters if waiter.tenant == tenant]
    assert len(reasons) <= 1
    return "".join(reasons)


async def test_a_tenant_waits_for_its_own_cores_and_then_gets_what_it_may(
    daemon: Daemon, onlooker: Connection
) -> None:
    with Steered(daemon.environ, CAPPED) as first, Steered(daemon.environ, CAPPED) as second:
        lease = first.ask("acquire('warboy(1)*1')")
        (view,) = (lease for lease in onlooker.leases() if lease.tenant == "capped")
        assert str(view.device_files[0]) == "npu0pe0", "not on another card"
        with pytest.raises(Raised, match="LimitExceeded: cores of the tenant capped is 2, the lim"):
            second.ask("acquire('npu:0:1')")
        with pytest.raises(Raised, match="NotAllowed: tenant capped may not use npu:1:0"):
            second.ask("acquire('npu:1:0')")
        second.order("acquire('npu:0:1', 60)")
        waits = "cores of the tenant would be 2, the limit is 1"
        await until(lambda: reason_of(onlooker, "capped") == waits)
        first.ask(f"connection.release({lease!r})")
        assert second.answer()
        assert str(onlooker.leases()[-1].device_files[0]) == "npu0pe1"


async def test_a_tenant_has_only_so_many_requests_in_line(
    daemon: Daemon, onlooker: Connection
) -> None:
    with Steered(daemon.environ, QUEUER) as first, Steered(daemon.environ, QUEUER) as second:
        held = onlooker.acquire(DeviceSpec.parse("npu:1:0"))
        first.order("acquire('npu:1:0', 60)")
        await until(lambda: reason_of(onlooker, "queuer") != "")
        with pytest.raises(Raised, match="LimitExceeded: waiting requests of the tenant queuer is"):
            second.ask("acquire('npu:1:0', 60)")
        onlooker.release(held.id)
        assert first.answer()


def test_a_tenant_s_programs_are_as_big_as_it_may(daemon: Daemon) -> None:
    with Steered(daemon.environ, LOADER) as client:
        lease = client.ask("acquire('npu:1:1')")
        with pytest.raises(Raised, match="LimitExceeded: program in bytes is 1001, the limit is 1"):
            client.ask(f"connection.load_program({lease!r}, bytes(1001))")
        with pytest.raises(Raised, match="InvalidProgram"):
            client.ask(f"connection.load_program({lease!r}, bytes(1000))")


def test_a_hasty_tenant_is_told_when_to_come_back_and_others_do_not_notice(daemon: Daemon) -> None:
    with Steered(daemon.environ, HASTY) as hasty, Steered(daemon.environ, PLAIN) as plain:
        for _ in range(2):
            hasty.ask("connection.release(acquire('npu:1:1', 60))")
        with pytest.raises(Raised, match=r"RateLimited: tenant hasty .* try again in \d{5,6} ms"):
            hasty.ask("acquire('npu:1:1')")
        for _ in range(5):
            plain.ask("connection.release(acquire('npu:1:1'))")
        daemon.logged(f"spec=npu:1:1 pid={hasty.pid} tenant=hasty reason=RATE_LIMITED")


async def test_the_higher_priority_is_served_first(daemon: Daemon, onlooker: Connection) -> None:
    with Steered(daemon.environ, LOW) as low, Steered(daemon.environ, HIGH) as high:
        with pytest.raises(Raised, match=r"NotAllowed: .* priority 6, its highest is 5"):
            low.ask("acquire('npu:2:0', priority=6)")
        held = onlooker.acquire(DeviceSpec.parse("npu:2:0"))
        low.order("acquire('npu:2:0', 60, priority=5)")
        await until(lambda: reason_of(onlooker, "low") != "")
        high.order("acquire('npu:2:0', 60)")
        await until(lambda: reason_of(onlooker, "high") != "")
        assert [waiter.tenant for waiter in onlooker.overview().waiters] == ["high", "low"]
        onlooker.release(held.id)
        first = high.answer()
        assert [waiter.tenant for waiter in onlooker.overview().waiters] == ["low"]
        high.ask(f"connection.release({first!r})")
        assert low.answer()


async def test_the_less_important_are_preempted_after_a_notice_and_a_grace(
    daemon: Daemon, onlooker: Connection
) -> None:
    with (
        Steered(daemon.environ, LOW) as low,
        Steered(daemon.environ, HIGH) as high,
        Steered(daemon.environ, TAKER) as taker,
    ):
        victim, equal = low.ask("acquire('npu:3:0')"), high.ask("acquire('npu:3:1')")
        taker.order("acquire('warboy(1)*1', 60)")
        assert taker.answer(), "there are free cores: nobody need go"
        taker.order("acquire('npu:3:0', 60)")
        recalled = ["LeaseRecalledNotice", "preempted by tenant taker"]
        assert low.ask(f"notice({victim!r})") == [recalled]
        assert reason_of(onlooker, "taker") == f"npu3pe0 is held by lease {victim}"
        with pytest.raises(Raised, match=r"LeaseEnded: .* preempted by tenant taker"):
            low.ask(f"connection.renew({victim!r})")
        low.ask(f"connection.release({victim!r})")
        assert taker.answer(), "long before the grace is over"
        taker.order("acquire('npu:3:1', 60)")
        await until(lambda: reason_of(onlooker, "taker") == f"npu3pe1 is held by lease {equal}")
        assert high.ask(f"connection.renew({equal!r}).state.value") == "granted"


def test_strangers_are_turned_away_but_may_look(daemon: Daemon, onlooker: Connection) -> None:
    held = onlooker.acquire(DeviceSpec.parse("npu:1:0"), 60, linger=5)
    secret = onlooker.secret(held.id)
    with Steered(daemon.environ, STRANGER) as stranger:
        assert stranger.ask("connection.devices()[1].name") == "npu1"
        assert held.id in stranger.ask("[lease.id for lease in connection.leases()]")
        for order in (
            "acquire('npu:1:1')",
            f"connection.load_program({held.id!r}, b'enf')",
            f"connection.resume({held.id!r}, {secret!r})",
        ):
            with pytest.raises(Raised, match=f"NotAllowed: tenant uid:{STRANGER} may not use"):
                stranger.ask(order)
        with pytest.raises(NotAllowed, match=f"tenant uid:{STRANGER} may not use"):
            onlooker.transfer(held.id, stranger.pid)
        daemon.logged(f"pid={stranger.pid} tenant=uid:{STRANGER} reason=NOT_ALLOWED")
    onlooker.release(held.id)


ACTS = {
    "connection.revoke({lease!r})": "revoke leases of others",
    "connection.cordon(0)": "cordon cards",
    "connection.uncordon(0)": "uncordon cards",
    "connection.drain(0)": "drain cards",
    "connection.reload_tenants()": "reload the tenants file",
    "connection.emulate(DeviceFile.parse('npu1'), SlowDma(1))": "make cards fail",
    "connection.clear_faults()": "make cards well",
    "connection.faults()": "see the faults of cards",
}


def test_only_administrators_administer(daemon: Daemon, onlooker: Connection) -> None:
    held = onlooker.acquire(DeviceSpec.parse("npu:1:0"), 60)
    with Steered(daemon.environ, PLAIN) as plain, Steered(daemon.environ, OPERATOR) as operator:
        for order, what in ACTS.items():
            with pytest.raises(Raised, match=f"NotAllowed: tenant plain may not {what}"):
                plain.ask(order.format(lease=held.id))
        assert [lease.id for lease in onlooker.leases() if not lease.cause] == [held.id]
        assert {device.reason for device in onlooker.devices()} == {""}
        for order in ACTS:
            operator.ask(order.format(lease=held.id))
        assert onlooker.leases()[0].cause == "revoked by an administrator"
        operator.ask("connection.uncordon(0)")
    refused = daemon.logged("admin.revoke").partition("admin.revoke")[0]
    assert refused.count("admin.refused") == len(ACTS)


CHANGING = """
[unmatched]
policy = "own-tenant"
[[tenant]]
name = "changing"
match = [{{ uid = {uid} }}]
max-cores = {cores}
"""


@pytest.fixture
def changing() -> Iterator[TenantsDaemon]:
    daemon = TenantsDaemon(CHANGING.format(uid=CAPPED, cores=2), "--recall-grace", "0.1")
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_changed_file_is_in_force_while_clients_hold_and_wait(
    changing: TenantsDaemon,
) -> None:
    with Steered(changing.environ, CAPPED) as holder, Steered(changing.environ, CAPPED) as waiter:
        lease = holder.ask("acquire('npu:0:0-1')")
        waiter.order("acquire('npu:0:0', 60)")
        changing.rules.write_text(CHANGING.format(uid=CAPPED, cores=1))
        changing.logged("tenants.reloaded")
        with pytest.raises(Raised, match=r"LimitExceeded: cores of the tenant changing is 3, .* 1"):
            holder.ask("acquire('npu:1:0')")
        assert holder.ask(f"connection.renew({lease!r}).state.value") == "granted"
        holder.ask(f"connection.release({lease!r})")
        assert waiter.answer()


def test_a_bad_file_changes_nothing_and_is_named(changing: TenantsDaemon) -> None:
    """By SIGHUP, which need not wait until the file has been found the same twice."""
    with Steered(changing.environ, CAPPED) as client, Steered(changing.environ) as root:
        changing.rules.write_text(CHANGING.format(uid=CAPPED, cores=-1))
        changing.signal(signal.SIGHUP)
        problem = 'tenant[1] "changing": max-cores is -1, expected a whole number, 0 or more'
        changing.logged(problem.replace('"', '\\"'))
        with pytest.raises(Raised) as caught:
            root.ask("connection.reload_tenants()")
        assert problem in str(caught.value)
        assert "the old one stays in force" in str(caught.value)
        client.ask("acquire('npu:0:0-1')")
        with pytest.raises(Raised, match="the limit is 2"):
            client.ask("acquire('npu:1:0')")
        changing.rules.write_text(CHANGING.format(uid=CAPPED, cores=4))
        assert root.ask("connection.reload_tenants()") == str(changing.rules)
        client.ask("acquire('npu:1:0-1')")
        changing.rules.chmod(0o666)
        with pytest.raises(Raised, match="others than its owner may write it"):
            root.ask("connection.reload_tenants()")


def test_a_victim_that_ignores_its_notice_loses_the_core(changing: TenantsDaemon) -> None:
    with Steered(changing.environ, CAPPED) as victim, Steered(changing.environ) as root:
        lease = victim.ask("acquire('npu:0:0')")
        assert root.ask("acquire('npu:0:0', 60, priority=1)")
        cause = "preempted by tenant uid:0"
        said = victim.ask(f"notice({lease!r})")
        assert said == [["LeaseRecalledNotice", cause], ["LeaseEndedNotice", cause]]


def test_a_bad_file_keeps_a_broker_from_starting() -> None:
    daemon = TenantsDaemon("[unmatched]\npolicy = 1")
    try:
        with pytest.raises(AssertionError, match=r"\[unmatched\]: policy is 1, expected \"own-ten"):
            daemon.start()
    finally:
        daemon.stop()
