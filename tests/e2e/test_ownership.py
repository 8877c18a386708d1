"""Who gets a core, who is told what, and how a core comes back when its owner dies."""

import math
import signal
import subprocess
import sys

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy, NotLeaseOwner
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import CoreState
from support.clients import HOLD, Client
from support.daemon import Daemon

PE0, FUSED = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:0:0-1")


def holding(daemon: Daemon, spec: str = "npu:0:0", megabytes: int = 1) -> Client:
    client = Client(HOLD.format(spec=spec, megabytes=megabytes), daemon.environ)
    assert client.line(), daemon.log
    return client


def furiosactl(daemon: Daemon, *arguments: str) -> str:
    start = "from furiosa.cli.furiosactl import main; raise SystemExit(main())"
    command = [sys.executable, "-c", start, *arguments]
    done = subprocess.run(command, env=daemon.environ, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_second_of_two_processes_is_told_who_holds_the_core(daemon: Daemon) -> None:
    with holding(daemon) as holder, Connection.open(client="test") as connection:
        with pytest.raises(DeviceBusy) as caught:
            connection.acquire(FUSED)
        assert caught.value.holder_pid == holder.pid
        assert caught.value.holder_device == "npu0pe0"
        assert "-c" in caught.value.holder_command
        (lease,) = connection.leases()
        with pytest.raises(NotLeaseOwner):
            connection.release(lease.id)


def test_the_tools_show_the_real_holder(daemon: Daemon) -> None:
    with holding(daemon, "npu:0:0-1") as holder:
        assert "0 (occupied by npu0pe0-1), 1 (occupied by npu0pe0-1)" in furiosactl(daemon, "list")
        (row,) = [line for line in furiosactl(daemon, "ps").splitlines() if "npu0pe0-1" in line]
        assert row.split("|")[2].strip() == str(holder.pid)
        assert sys.executable in row
    with Connection.open(client="test") as connection:
        connection.acquire(FUSED, math.inf)
        connection.release(connection.leases()[0].id)
    assert "0 (available), 1 (available)" in furiosactl(daemon, "list")


@pytest.mark.parametrize("megabytes", [1, 1500])
def test_a_killed_owner_s_core_goes_to_the_next_waiter(daemon: Daemon, megabytes: int) -> None:
    with holding(daemon, megabytes=megabytes) as holder, Connection.open(client="t") as connection:
        holder.kill()
        assert connection.acquire(PE0, wait_limit=60).owner.pid != holder.pid
        (device,) = connection.devices()
        assert [core.state for core in device.cores] == [CoreState.OCCUPIED, CoreState.AVAILABLE]
    if megabytes > 1000:
        # a small process is gone so fast that its connection may tell first; a big one is not
        assert f"owner.died pid={holder.pid} witness=futex" in daemon.log


def test_an_owner_that_is_stopped_keeps_its_lease(daemon: Daemon) -> None:
    with holding(daemon) as holder, Connection.open(client="test") as connection:
        holder.process.send_signal(signal.SIGSTOP)
        with pytest.raises(DeviceBusy):
            connection.acquire(PE0)
        (lease,) = connection.leases()
        assert lease.owner.pid == holder.pid


def test_a_waiter_gives_up_at_its_limit(daemon: Daemon) -> None:
    with holding(daemon), Connection.open(client="test") as connection:
        with pytest.raises(DeviceBusy):
            connection.acquire(PE0, wait_limit=0.01)
        assert len(connection.leases()) == 1


def test_closing_a_connection_gives_its_cores_back(daemon: Daemon) -> None:
    with Connection.open(client="first") as first:
        first.acquire(PE0)
    with Connection.open(client="second") as second:
        assert second.acquire(PE0, wait_limit=60).device_files
