"""Control groups: as files in a plain folder, and as the kernel's own where there are any to be had."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker.workers import cgroup
from furiosa.broker.workers.cgroup import Group, Subtree, limits, own_folder
from support import engines
from support.waiting import until
from support.workers import PE0, a_pool, fake_engines

MOUNTS = """\
25 30 0:22 / /proc rw,nosuid - proc proc rw
33 25 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID = """\
34 25 0:29 / /sys/fs/cgroup ro - tmpfs tmpfs ro
35 34 0:30 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
36 34 0:31 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
"""
CONTAINER = "33 25 0:28 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("cgroups", "mounts", "expected"),
    [
        ("0::/system.slice/f.service\n", MOUNTS, "/sys/fs/cgroup/system.slice/f.service"),
        ("0::/\n", MOUNTS, "/sys/fs/cgroup"),
        ("4:memory:/x\n0::/y\n", HYBRID, "/sys/fs/cgroup/unified/y"),
        ("0::/kubepods/pod1/c\n", CONTAINER, "/sys/fs/cgroup/c"),
        ("0::/elsewhere\n", CONTAINER, None),
        ("4:memory:/x\n", HYBRID, None),
        ("0::/../outside\n", MOUNTS, None),
        ("", "", None),
    ],
)
def test_the_own_group_is_found_in_the_file_system(
    cgroups: str, mounts: str, expected: str | None
) -> None:
    assert own_folder(cgroups, mounts) == (None if expected is None else Path(expected))


def test_only_what_was_delegated_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / cgroup.BROKER
    inner.mkdir()
    for here, marked, expected in (
        (tmp_path, None, None),
        (tmp_path, tmp_path, tmp_path),
        (inner, tmp_path, tmp_path),  # where an earlier self put itself
        (inner, inner, inner),
    ):
        monkeypatch.setattr(cgroup, "own_folder", lambda *_, here=here: here)
        monkeypatch.setattr(cgroup, "_marked", lambda folder, marked=marked: folder == marked)
        assert cgroup.delegated() == expected


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with the files of a group that has a process in it and two controllers."""
    (tmp_path / "cgroup.procs").write_text("17\n18\n")
    (tmp_path / "cgroup.controllers").write_text("cpuset memory pids hugetlb\n")
    return tmp_path


def test_the_broker_makes_room_and_asks_for_the_controllers_there_are(plain: Path) -> None:
    (plain / "worker-npu7").mkdir()  # of one that was killed
    Subtree(plain)
    assert (plain / "broker" / "cgroup.procs").read_text() == "18"  # the last one written
    assert (plain / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert not (plain / "worker-npu7").exists()


def test_a_group_is_given_the_limits_that_it_knows(plain: Path) -> None:
    subtree = Subtree(plain)
    folder = plain / "worker-npu0pe0"
    folder.mkdir()
    known = ("memory.max", "memory.oom.group", "pids.max")
    for name in known:
        (folder / name).touch()
    group = subtree.group("npu0pe0", limits(memory_bytes=4096, threads=64, cpus=2))
    assert group is not None
    assert group.folder == folder
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        "memory.max": "4096",
        "memory.oom.group": "1",
        "pids.max": "64",
    }
    assert limits(4096, 64, 2)["cpu.max"] == "200000 100000"


def test_a_group_that_cannot_be_made_is_done_without(
    plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subtree = Subtree(plain)
    (plain / "worker-npu0").touch()
    assert subtree.group("npu0", {}) is None
    assert "cgroup.not_made" in caplog.text


@pytest.fixture
def real() -> Iterator[Path]:
    """An empty group of the kernel's, below the root of a mounted hierarchy."""
    mounts = Path("/proc/self/mountinfo").read_text()
    root = own_folder("0::/", mounts)
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no control group (v2) may be made here")
    folder = root / f"furiosa-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group (v2) may be made here: {error}")
    yield folder
    for inner in filter(Path.is_dir, folder.iterdir()):
        inner.rmdir()
    folder.rmdir()


async def test_a_worker_lives_and_ends_in_its_group(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pool(**fake_engines(monkeypatch), cgroup=str(real)) as bench:
        await bench.load("a", engines.INVERT)
        group = real / "worker-npu0pe0"
        assert (group / "cgroup.procs").read_text().split() == [str(bench.pid())]
        assert bench.pool.lacks == ()
        await bench.release("a")
        assert not group.exists()
        await bench.load("a", engines.INVERT)
        (group / "cgroup.kill").write_text("1")
        assert await bench.deaths.get() == ("a", PE0, "killed by signal 9 (SIGKILL)")
        assert not group.exists()


async def test_what_is_left_in_a_group_is_ended_with_it(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pool(**fake_engines(monkeypatch), cgroup=str(real)) as bench:
        await bench.load("a", engines.INVERT)
        group = Group(real / "worker-npu0pe0")
        group.remove()
        assert await bench.deaths.get() == ("a", PE0, "killed by signal 9 (SIGKILL)")
        await until(lambda: not group.folder.exists())


async def test_a_folder_that_is_no_group_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_pool(**fake_engines(monkeypatch), cgroup=str(tmp_path / "none")) as bench:
        await bench.load("a", engines.INVERT)
    assert "cgroup.not_used" in caplog.text
