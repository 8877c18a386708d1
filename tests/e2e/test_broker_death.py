"""What is left when the broker ends, in good order or not."""

import os
import select
import signal

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import BrokerUnavailable, DeviceBusy, DeviceUnavailable
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.clients import HOLD, Client
from support.daemon import Daemon

PE0 = DeviceSpec.parse("npu:0:0")


def ended(pidfds: list[int]) -> bool:
    """Whether all these processes end, which they must within a minute."""
    for pidfd in pidfds:
        if not select.select([pidfd], [], [], 60)[0]:
            return False
        os.close(pidfd)
    return True


def test_a_killed_broker_is_named_takes_its_processes_along_and_starts_again(
    daemon: Daemon,
) -> None:
    connection = Connection.open(client="test")
    lease = connection.acquire(PE0)
    children = daemon.open_descendants()
    assert children
    daemon.signal(signal.SIGKILL)
    with pytest.raises(BrokerUnavailable, match=str(daemon.socket)):
        connection.wait([])
    with pytest.raises(BrokerUnavailable):
        connection.devices()
    connection.close()
    assert ended(children)
    daemon.wait()

    daemon.start()
    assert f"lease.adopted lease={lease.id} device=npu0pe0" in daemon.log
    with Connection.open(client="test") as again:
        (found,) = again.leases()
        assert (found.id, found.state) == (lease.id, LeaseState.DETACHED)
        assert again.resume(lease.id).state is LeaseState.GRANTED, "its process is back"
        again.release(lease.id)
        assert again.acquire(PE0).device_files == lease.device_files


def test_a_broker_that_comes_back_keeps_the_cores_of_the_living_and_frees_those_of_the_dead(
    daemon: Daemon,
) -> None:
    with (
        Client(HOLD.format(spec="npu:0:0", megabytes=1), daemon.environ) as living,
        Client(HOLD.format(spec="npu:0:1", megabytes=1), daemon.environ) as mortal,
    ):
        held, lost = living.line(), mortal.line()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        mortal.kill()
        mortal.process.wait()
        daemon.start()
        assert f"lease.lost lease={lost} device=npu0pe1" in daemon.log
        with Connection.open(client="test") as other:
            assert other.acquire(DeviceSpec.parse("npu:0:1")).id != lost
            with pytest.raises(DeviceBusy) as caught:
                other.acquire(PE0)
            assert caught.value.holder_pid == living.pid
            (detached,) = (lease for lease in other.leases() if lease.id == held)
            assert detached.state is LeaseState.DETACHED
            living.kill()
            assert other.acquire(PE0, wait_limit=60).device_files == detached.device_files


def test_sigterm_drains_and_leaves_nothing(daemon: Daemon) -> None:
    with Client(HOLD.format(spec="npu:0:0", megabytes=1), daemon.environ) as holder:
        lease = holder.line()
        children = daemon.open_descendants()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert ended(children)
    cause = 'cause="the broker is shutting down"'
    assert f"lease.recalled lease={lease} pid={holder.pid} {cause}" in daemon.log
    assert f"lease.ended lease={lease} device=npu0pe0 pid={holder.pid} held=" in daemon.log
    assert not daemon.socket.exists()
    assert not daemon.handoff.exists()


def test_a_second_broker_on_the_same_socket_refuses_to_start(daemon: Daemon) -> None:
    second = Daemon(1)
    second.folder.rmdir()
    second.folder, second.socket = daemon.folder, daemon.socket
    with pytest.raises(AssertionError, match="another broker is running on"):
        second.start()
    with Connection.open(client="test") as connection:
        assert len(connection.devices()) == 1


def test_a_cordon_outlives_the_broker(daemon: Daemon) -> None:
    with Connection.open(client="admin") as admin:
        admin.cordon(0, "new fan")
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    daemon.start()
    with Connection.open(client="admin") as admin:
        with pytest.raises(DeviceUnavailable, match="new fan"):
            admin.acquire(PE0)
        admin.uncordon(0)
        assert admin.acquire(PE0)
