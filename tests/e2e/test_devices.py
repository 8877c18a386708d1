"""Cards that fail, get hot, are pulled out, or are opened by strangers, under a broker that leases them."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy, DeviceUnavailable, UnknownDevice
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import Availability, CoreState, DeviceView
from support.clients import Raised, Steered
from support.daemon import Daemon
from support.holding import holding
from support.virtual_cards import overheat, pull_out, put_back, set_alive
from support.waiting import until

ANY, PE0, PE1 = map(DeviceSpec.parse, ("warboy(1)*1", "npu:0:0", "npu:0:1"))
DEAD = "the card does not answer (alive is 0)"
RECALLED, ENDED = "LeaseRecalledNotice", "LeaseEndedNotice"


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(2, "--recall-grace", "0.2", "--health-recovery", "0.5")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def root(shared: Daemon) -> Path:
    return shared.folder / "devices"


@pytest.fixture
async def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """Both cards are well, and free."""
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    with Connection.open(client="test") as connection:

        def well() -> bool:
            cores = [core for device in connection.devices() for core in device.cores]
            return [core.state for core in cores] == [CoreState.AVAILABLE] * 4

        await until(well)
    return shared


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[Connection]:
    with Connection.open(client="test") as connection:
        yield connection


def card(connection: Connection, npu: int) -> DeviceView | None:
    return next((device for device in connection.devices() if device.index == npu), None)


def is_back(connection: Connection, npu: int) -> Callable[[], bool]:
    def back() -> bool:
        device = card(connection, npu)
        return device is not None and device.availability is Availability.AVAILABLE

    return back


def two_phases(client: Steered, lease: str) -> list[str]:
    """What the owner of a lease is told until it has ended: the kinds of notices, and one cause."""
    said = client.ask(f"notice({lease!r})")
    while said[-1][0] != ENDED:
        said += client.ask(f"notice({lease!r})")
    (cause,) = {cause for _, cause in said}
    return [*(kind for kind, _ in said), cause]


async def test_a_dead_card_is_taken_away_in_two_phases_and_comes_back_when_it_is_well(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    elsewhere = connection.acquire(DeviceSpec.parse("npu:1:0-1"))
    with (
        Steered(daemon.environ) as owner,
        Steered(daemon.environ) as any_card,
        Steered(daemon.environ) as this_card,
    ):
        lease = owner.ask("acquire('npu:0:0-1')")
        any_card.order("acquire('warboy(1)*1', 60)")
        await until(lambda: len(connection.overview().waiters) == 1)
        set_alive(root, 0, "0")
        assert two_phases(owner, lease) == [RECALLED, ENDED, f"npu0: {DEAD}"]
        dead = card(connection, 0)
        assert dead is not None
        assert (dead.availability, dead.reason) == (Availability.UNAVAILABLE, DEAD)
        assert {core.state for core in dead.cores} == {CoreState.UNAVAILABLE}
        with pytest.raises(DeviceUnavailable, match=re.escape(f"npu0: {DEAD}")):
            connection.acquire(PE0)
        this_card.order("acquire('npu:0:0', 60)")
        await until(lambda: len(connection.overview().waiters) == 2)
        reasons = {waiter.device_spec: waiter.reason for waiter in connection.overview().waiters}
        assert reasons["npu:0:0"] == f"npu0 is not available: {DEAD}"
        connection.release(elsewhere.id)
        granted = any_card.answer()
        (view,) = (lease for lease in connection.leases() if lease.id == granted)
        assert view.device_files == (DeviceFile.parse("npu1pe0"),)
        set_alive(root, 0, "1")
        again = this_card.answer()
    log = daemon.logged(f"lease.granted lease={again}")
    assert log.index("device.available device=npu0") < log.index(f"lease.granted lease={again}")


async def test_a_card_must_be_well_for_a_while_before_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = Daemon(3, "--recall-grace", "0", "--health-recovery", "600")
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    root = daemon.folder / "devices"
    try:
        with Connection.open(client="test") as connection:
            set_alive(root, 0, "0")
            pull_out(root, 1)
            await until(lambda: not is_back(connection, 0)() and card(connection, 1) is None)
            set_alive(root, 0, "1")
            put_back(root, 1)
            with holding(root / "dev/npu2pe0"):  # whoever sees this has seen that all is well
                await until(lambda: connection.processes() != ())
            for npu, reason in ((0, DEAD), (1, "the card has vanished")):
                device = card(connection, npu)
                assert device is not None
                assert (device.availability, device.reason) == (Availability.UNAVAILABLE, reason)
                with pytest.raises(DeviceUnavailable, match=re.escape(reason)):
                    connection.acquire(DeviceSpec.parse(f"npu:{npu}:0"))
    finally:
        daemon.stop()


def test_a_card_that_is_too_hot_comes_back_only_well_below_the_limit(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    with Steered(daemon.environ) as owner:
        lease = owner.ask("acquire('npu:0:0')")
        overheat(root, 0, 99_000)
        cause = "npu0: the card is too hot: 99 C; it comes back below 85 C"
        assert two_phases(owner, lease) == [RECALLED, ENDED, cause]
        overheat(root, 0, 90_000)
        with pytest.raises(DeviceUnavailable, match="too hot"):
            connection.acquire(PE0, 2.6)  # longer than two looks and the recovery take
        overheat(root, 0, 45_000)
        assert connection.acquire(PE0, 60)


async def test_a_card_that_is_pulled_out_is_gone_and_is_another_when_it_is_back(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    with Steered(daemon.environ) as owner, Steered(daemon.environ) as waiter:
        lease = owner.ask("acquire('npu:0:0')")
        waiter.order("acquire('npu:0:0-1', 60)")
        await until(lambda: len(connection.overview().waiters) == 1)
        pull_out(root, 0)
        assert two_phases(owner, lease) == [RECALLED, ENDED, "npu0pe0 is gone"]
        with pytest.raises(Raised, match="UnknownDevice"):
            waiter.answer()
        assert [device.name for device in connection.devices()] == ["npu1"]
        with pytest.raises(UnknownDevice):
            connection.acquire(PE0, 60)
        before = len(daemon.log)
        put_back(root, 0)
        await until(lambda: card(connection, 0) is not None)
        granted = connection.acquire(PE0, 60)
    log = daemon.logged(f"lease.granted lease={granted.id}")[before:]
    assert log.index("device.available device=npu0") < log.index(
        f"lease.granted lease={granted.id}"
    )


async def test_a_cordon_outlives_a_card_s_absence(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    connection.cordon(0, "a bad slot")
    pull_out(root, 0)
    await until(lambda: card(connection, 0) is None)
    before = len(daemon.log)
    put_back(root, 0)
    await until(lambda: "device.available device=npu0" in daemon.log[before:])
    back = card(connection, 0)
    assert back is not None
    assert (back.availability, back.reason) == (Availability.CORDONED, "a bad slot")
    with pytest.raises(DeviceUnavailable, match="a bad slot"):
        connection.acquire(PE0)
    connection.uncordon(0)


async def test_a_stranger_s_core_is_shown_and_leased_to_nobody_until_it_is_let_go(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    with Steered(daemon.environ) as waiter:
        with holding(root / "dev/npu0pe0") as pid:
            await until(lambda: any(not row.lease_id for row in connection.processes()))
            shown = daemon.furiosactl("ps")
            (row,) = (line for line in shown.stdout.splitlines() if "npu0pe0" in line)
            assert row.split("|")[2].strip() == str(pid)
            assert f"furiosactl: pid {pid} holds npu0pe0 without a lease\n" in shown.stderr
            assert "0 (occupied by npu0pe0), 1 (available)" in daemon.furiosactl("list").stdout
            with pytest.raises(DeviceBusy) as busy:
                connection.acquire(PE0)
            assert (busy.value.holder_device, busy.value.holder_pid) == ("npu0pe0", pid)
            assert busy.value.holder_command in shown.stdout
            waiter.order("acquire('npu:0:0', 60)")
            await until(lambda: len(connection.overview().waiters) == 1)
            reason = connection.overview().waiters[0].reason
            assert reason == f"npu0pe0 is open behind the broker's back by pid {pid}"
            assert connection.acquire(PE1).device_files == (DeviceFile.parse("npu0pe1"),)
        assert waiter.answer()
    daemon.logged("device.held_without_lease device=npu0pe0")


async def test_an_owner_gets_its_device_node_and_is_no_stranger(
    daemon: Daemon, root: Path, connection: Connection
) -> None:
    node = root / "dev/npu0pe0"
    with Steered(daemon.environ) as owner:
        lease = owner.ask("acquire('npu:0:0')")
        owner.ask(f"fd = connection.open_device({lease!r}, DeviceFile.parse('npu0pe0'))")
        assert owner.ask("os.fstat(fd).st_ino") == node.stat().st_ino
        assert owner.ask("os.get_inheritable(fd)") is False
        assert owner.ask("os.pwrite(fd, b'hello', 0)") == 5
        assert node.read_bytes() == b"hello"
        with pytest.raises(Raised, match="BadArgument: device_file is npu0pe1, expected a file of"):
            owner.ask(f"connection.open_device({lease!r}, DeviceFile.parse('npu0pe1'))")
        with pytest.raises(Raised, match="NotLeaseOwner"), Steered(daemon.environ) as stranger:
            stranger.ask(f"connection.open_device({lease!r}, DeviceFile.parse('npu0pe0'))")
        with holding(root / "dev/npu1pe0"):  # what is seen of it was seen together with the owner
            await until(lambda: any(row.device_file.npu == 1 for row in connection.processes()))
            rows = [row for row in connection.processes() if row.device_file.npu == 0]
            assert [(row.pid, row.lease_id) for row in rows] == [(owner.pid, lease)]
        owner.ask(f"connection.release({lease!r})")
        await until(lambda: [row.pid for row in connection.processes()] == [owner.pid])
        assert connection.processes()[0].lease_id == "", "it let go of the lease, not of the node"
        with pytest.raises(DeviceBusy):
            connection.acquire(PE0)
        owner.ask("os.close(fd)")
        assert connection.acquire(PE0, 60)
    os.truncate(node, 0)
