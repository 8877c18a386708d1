"""What the mounts of a container say its processes may lease, told by the kernel to a real broker."""

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationState
from furiosa.common.selector import DeviceSpec
from support import systemd
from support.boxes import Box
from support.clients import Raised, Steered
from support.daemon import Daemon
from support.waiting import block_until

REFUSE = """
[unmatched]
policy = "refuse"
"""

Contain = Callable[..., Box]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(2, "--containers", "granted", embedded=False)
    (made.folder / "tenants").write_text(REFUSE)
    made.set("--tenants", str(made.folder / "tenants"))
    made.start()
    monkeypatch.setenv("FURIOSA_BROKER", made.environ["FURIOSA_BROKER"])
    yield made
    made.stop()


@pytest.fixture
def contain(daemon: Daemon, tmp_path: Path) -> Iterator[Contain]:
    """Starts a client with grants mounted, in a container of the pod with this uid."""
    tree = systemd.cgroup()
    if os.geteuid() != 0 or tree is None or not os.access(tree, os.W_OK):
        pytest.skip("no control group (v2) may be made here")
    with contextlib.ExitStack() as stack:
        made: dict[str, Path] = {}

        def contain(*grants: str, pod: str) -> Box:
            slice_ = f"kubepods-besteffort-pod{pod.replace('-', '_')}.slice"
            group = tree / f"{slice_}:cri-containerd:{os.urandom(32).hex()}"
            try:
                group.mkdir()
            except OSError as exc:
                pytest.skip(f"no control group (v2) may be made here: {exc}")
            stack.callback(group.rmdir)
            folder = tmp_path / str(len(made))
            folder.mkdir()
            made[group.name] = folder
            return stack.enter_context(Box(daemon.environ, grants, folder, group))

        yield contain


@pytest.fixture
def plugin(daemon: Daemon) -> Iterator[Connection]:
    with Connection.open(client="plugin") as connection:
        yield connection


def files(*names: str) -> list[DeviceFile]:
    return list(map(DeviceFile.parse, names))


def pod() -> str:
    return str(uuid.uuid4())


def test_a_pod_may_lease_what_was_reserved_for_it_and_nothing_else(
    plugin: Connection, contain: Contain
) -> None:
    made = plugin.reserve(files("npu0pe0"), manager="m")
    uid = pod()
    mine, stranger = contain(made.grant, pod=uid), contain(pod=pod())
    for who, match in ((mine, "it was given npu0pe0"), (stranger, "no tenant")):
        with pytest.raises(Raised, match=match):
            who.ask("acquire('npu0pe1')")
    with pytest.raises(Raised, match="so much was not reserved"):
        mine.ask("acquire('warboy(2)*1')")
    assert mine.ask("acquire('warboy(1)*1')")
    (bound,) = plugin.reservations()
    assert (bound.state, bound.pids) == (ReservationState.BOUND, (mine.pid,))
    assert bound.container is not None
    assert bound.container.pod_uid == uid
    (lease,) = plugin.leases()
    assert (lease.owner.pid, lease.tenant) == (mine.pid, f"pod:{uid}")
    with pytest.raises(Raised, match="may not cordon"):
        mine.ask("connection.cordon(0)")
    with pytest.raises(Raised, match="may not reserve"):
        mine.ask("connection.reserve([DeviceFile.parse('npu1')], manager='m')")


def test_a_pod_without_a_grant_gets_nothing_where_grants_are_needed(
    plugin: Connection, contain: Contain, daemon: Daemon
) -> None:
    (daemon.folder / "tenants").write_text('[unmatched]\npolicy = "own-tenant"\n')
    plugin.reload_tenants()
    stranger = contain(pod=pod())
    with pytest.raises(Raised, match="ask for them in the pod's resources"):
        stranger.ask("acquire('npu1pe0')")


def test_cores_are_free_when_their_pod_is_dead_and_another_pod_gets_them(
    plugin: Connection, contain: Contain
) -> None:
    first = plugin.reserve(files("npu0pe0-1"), manager="m")
    dead = contain(first.grant, pod=pod())
    dead.ask("acquire('npu0pe0-1')")
    with pytest.raises(DeviceBusy, match=f"pid {dead.pid}"):
        plugin.reserve(files("npu0pe0"), manager="m")
    with pytest.raises(DeviceBusy, match=f"pid {dead.pid}"):
        plugin.cancel_reservation(first.id)
    dead.kill()
    dead.process.wait()
    block_until(lambda: plugin.leases() == ())
    second = plugin.reserve(files("npu0pe0"), manager="m")
    assert not Path(first.grant).exists(), "nobody can be given it any more"
    assert contain(second.grant, pod=pod()).ask("acquire('npu0pe0')")


def test_reservations_outlive_the_broker_and_their_pods_come_back(
    plugin: Connection, contain: Contain, daemon: Daemon
) -> None:
    made = plugin.reserve(files("npu0pe0"), manager="m", label="a pod")
    client = contain(made.grant, pod=pod())
    lease = client.ask("acquire('npu0pe0')")
    (before,) = plugin.reservations()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    daemon.start()
    with Connection.open(client="plugin") as again:
        assert again.reservations() == (before,)
        with pytest.raises(DeviceBusy, match=f"pid {client.pid}"):
            again.reserve(files("npu0pe0"), manager="m")
        with pytest.raises(DeviceBusy):
            again.acquire(DeviceSpec.parse("npu0pe0"))
        client.ask("connect()")
        assert client.ask(f"connection.resume({lease!r}).id") == lease
        with pytest.raises(Raised, match="given npu0pe0"):
            client.ask("acquire('npu0pe1')")


def test_a_container_that_was_given_device_files_may_lease_these_alone(
    plugin: Connection, contain: Contain
) -> None:
    folder = plugin.grants().folder
    box = contain(f"{folder}/devices/npu0pe0", f"{folder}/devices/npu1pe1", pod=pod())
    assert box.ask("len(connection.acquire(DeviceSpec.parse('warboy(1)*2')).device_files)") == 2
    for spec in ("npu0pe1", "npu0", "warboy(2)*1", "warboy(1)*3"):
        with pytest.raises(Raised, match="it was given npu0pe0, npu1pe1"):
            box.ask(f"acquire({spec!r})")


def test_whoever_has_that_grant_may_reserve_and_no_other_container(
    plugin: Connection, contain: Contain
) -> None:
    manager = f"{plugin.grants().folder}/manager"
    box = contain(manager, pod=pod())
    made = box.ask("connection.reserve([DeviceFile.parse('npu0pe0')], manager='m').id")
    assert [view.id for view in plugin.reservations()] == [made]
    assert box.ask(f"connection.cancel_reservation({made!r})") is None
    assert plugin.reservations() == ()


def test_a_secret_opens_no_lease_of_another_pool(plugin: Connection, contain: Contain) -> None:
    made = plugin.reserve(files("npu0pe0"), manager="m")
    box = contain(made.grant, pod=pod())
    lease = box.ask("acquire('npu0pe0', linger=60.0)")
    secret = box.ask(f"connection.secret({lease!r})")
    assert secret
    with pytest.raises(Exception, match=f"may not have lease {lease}"):
        plugin.resume(lease, secret)


def test_what_is_kept_for_a_pod_is_shown_as_occupied(
    plugin: Connection, daemon: Daemon, contain: Contain
) -> None:
    plugin.reserve(files("npu0pe0"), manager="m")
    assert "0 (occupied by npu0pe0), 1 (available)" in daemon.furiosactl("list").stdout
    with Steered(daemon.environ) as outside, pytest.raises(Raised, match="reserved by m"):
        outside.ask("acquire('npu0pe0')")
