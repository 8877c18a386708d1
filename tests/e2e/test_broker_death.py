"""What is left when the broker ends, in good order or not."""

import os
import select
import signal

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.selector import DeviceSpec
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
    children = [os.pidfd_open(pid) for pid in daemon.descendants()]
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
    assert f"lease.lost lease={lease.id} device=npu0pe0" in daemon.log
    with Connection.open(client="test") as again:
        assert again.leases() == ()
        assert again.acquire(PE0).device_files == lease.device_files


def test_sigterm_drains_and_leaves_nothing(daemon: Daemon) -> None:
    with Client(HOLD.format(spec="npu:0:0", megabytes=1), daemon.environ) as holder:
        lease = holder.line()
        children = [os.pidfd_open(pid) for pid in daemon.descendants()]
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert ended(children)
    assert (
        f'lease.revoking lease={lease} device=npu0pe0 pid={holder.pid} cause="the broker'
        in daemon.log
    )
    assert "lease.ended" in daemon.log
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
