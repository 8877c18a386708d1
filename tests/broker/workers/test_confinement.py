"""What a worker may still do, and that nobody survives the broker."""

import os
import pwd
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.broker.workers.pool import WorkerPool, WorkerSettings
from furiosa.broker.workers.spawner import environment
from furiosa.common.names import DeviceFile
from support import engines
from support.workers import FUSED, PE0, PE1, a_pool, children, fake_engines, status_of

CPUS = tuple(sorted(os.sched_getaffinity(0)))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")


async def test_a_worker_is_named_alone_and_without_privileges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_pool(**fake_engines(monkeypatch)) as bench:
        await bench.load("a", engines.INVERT, FUSED)
        pid = bench.pid(FUSED)
        status = status_of(pid)
        assert status["Name"] == ["npu0pe0-1"]
        assert status["Threads"] == ["1"]
        assert status["NoNewPrivs"] == ["1"]
        assert status["Seccomp"] == ["2"]  # SECCOMP_MODE_FILTER
        assert status["PPid"] == [str(bench.zygote())]
        title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
        assert title == b"furiosa-worker npu0pe0-1"
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits
        assert "Max open files            256                  256" in limits
        assert "Max file size             0                    0" in limits
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
        assert int(status["SigCgt"][0], 16) == 0
        ignored = int(status["SigIgn"][0], 16)
        assert all(ignored >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM))


@needs_root
async def test_root_becomes_nobody_in_namespaces_of_its_own(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    nobody = pwd.getpwnam("nobody")
    before = os.getgroups()
    os.setgroups([4242])
    request.addfinalizer(lambda: os.setgroups(before))
    async with a_pool(**fake_engines(monkeypatch)) as bench:
        await bench.load("a", engines.INVERT)
        pid = bench.pid()
        status = status_of(pid)
        assert status["Uid"] == [str(nobody.pw_uid)] * 4
        assert status["Gid"] == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == []
        for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
            assert int(status[capabilities][0], 16) == 0
        assert status["NSpid"] == [str(pid), "1"]  # sees no other process to signal
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0  # not others of its user
        for namespace in ("net", "ipc", "mnt", "pid", "uts"):
            theirs = os.readlink(f"/proc/{pid}/ns/{namespace}")
            assert theirs != os.readlink(f"/proc/self/ns/{namespace}")
        mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
        assert mounts
        assert all({"ro", "nosuid", "nodev"} <= set(mount[3].split(",")) for mount in mounts)
        hidden = {mount[1] for mount in mounts if mount[2] == "tmpfs" and "noexec" in mount[3]}
        assert {"/tmp", "/dev/shm", "/proc"} <= hidden
        assert os.access("/tmp", os.W_OK)  # ours are as they were
        assert Path("/proc/self/stat").exists()


async def test_a_worker_holds_its_own_descriptors_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_pool(**fake_engines(monkeypatch)) as bench:
        await bench.load("a", engines.INVERT, PE0)
        await bench.load("b", engines.INVERT, PE1)
        for file in (PE0, PE1):
            links = Path(f"/proc/{bench.pid(file)}/fd").iterdir()
            names = sorted(
                os.readlink(link).partition(":")[0] for link in links if link.name != "2"
            )
            assert names == ["/dev/null", "/dev/null", "/memfd", "anon_inode", "socket"]


@pytest.mark.skipif(len(CPUS) < 2, reason="placement needs two CPUs to show")
async def test_every_core_has_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"npu0pe0": 0, "npu0pe1": 1, "npu1pe0": 2, "npu3pe1": 7}
    async with a_pool(**fake_engines(monkeypatch), cpus=CPUS[:2]) as bench:
        for name, place in files.items():
            file = DeviceFile.parse(name)
            await bench.load(name, engines.INVERT, file)
            assert os.sched_getaffinity(bench.pid(file)) == {CPUS[place % 2]}
        for name in ("npu4pe0-1", "npu5"):
            file = DeviceFile.parse(name)
            await bench.load(name, engines.INVERT, file)
            assert os.sched_getaffinity(bench.pid(file)) == set(CPUS[:2])


def test_memory_is_bounded_by_what_there_is() -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    settings = WorkerSettings()
    assert settings.memory_bytes == min(16 * 1024**3, physical)
    assert settings.max_total_arena_bytes == physical // 2


async def test_a_limit_on_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 300 * 1024**2
    async with a_pool(**fake_engines(monkeypatch), memory_bytes=limit) as bench:
        await bench.load("a", engines.INVERT)
        [line] = [
            line
            for line in Path(f"/proc/{bench.pid()}/limits").read_text().splitlines()
            if line.startswith("Max data size")
        ]
        assert line.split()[3:5] == [str(limit)] * 2


def test_workers_see_nothing_of_the_brokers_environment_but_what_python_needs() -> None:
    ours = {"PATH": "/bin", "PYTHONPATH": "/x", "LC_ALL": "C", "TOKEN": "secret", "HOME": "/root"}
    theirs = environment(ours)
    assert {"PATH", "PYTHONPATH", "LC_ALL", "ORT_DISABLE_TELEMETRY"} <= theirs.keys()
    assert not {"TOKEN", "HOME"} & theirs.keys()


@needs_root
def test_an_unknown_user_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="there is no user 'nosuch'"):
        WorkerPool(WorkerSettings(user="nosuch"), on_death=lambda *_: None)


BROKER = """
import asyncio, os, signal
from support import engines
from support.workers import PE0, PE1, a_pool, hanging

async def main():
    async with a_pool(engine="support.engines:load") as bench:
        await bench.load("a", engines.INVERT, PE0)
        queue = await hanging(bench, "b", PE1)
        os.kill(bench.zygote(), signal.SIGSTOP)
        print(bench.zygote(), bench.pid(PE0), bench.pid(PE1), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_nobody_survives_a_killed_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those who cannot see its sockets close: a stopped zygote, a worker in the middle of a run."""
    fake_engines(monkeypatch)
    with subprocess.Popen([sys.executable, "-c", BROKER], stdout=subprocess.PIPE) as broker:
        assert broker.stdout is not None
        pids = [int(pid) for pid in broker.stdout.readline().split()]
        assert len(pids) == 3
        assert children(broker.pid) == set(pids)
        watched = [os.pidfd_open(pid) for pid in pids]
        broker.send_signal(signal.SIGKILL)
    for pidfd in watched:
        assert select.select([pidfd], [], [], 30)[0]
        os.close(pidfd)
