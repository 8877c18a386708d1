"""What a process was given, read from a /proc that the test writes."""

import os
from pathlib import Path

import pytest

from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.common.names import DeviceFile

LINE = "{number} 1 {device} {root} {point} ro,relatime - ext4 /dev/x ro\n"


class Proc:
    """A folder like /proc. The broker is in namespace 1, and sees the test's folder as `/srv` of 8:1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "proc"
        self.grants = folder / "state with blank" / "grants"
        shown = os.fsdecode(os.fsencode(folder / "state with blank")).replace(" ", r"\040")
        self.add("self", 1, ("8:9", "/", "/"), ("8:1", "/srv", shown))

    def add(self, pid: str, namespace: int, *mounts: tuple[str, str, str]) -> None:
        (self.folder / pid / "ns").mkdir(parents=True)
        (self.folder / pid / "ns" / "mnt").symlink_to(f"mnt:[{namespace}]")
        lines = [
            LINE.format(number=n, device=device, root=root, point=point)
            for n, (device, root, point) in enumerate(mounts)
        ]
        (self.folder / pid / "mountinfo").write_text("".join(lines))

    def files(self) -> GrantFiles:
        return GrantFiles(self.grants, str(self.folder))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_mounted_grant_counts_wherever_it_is_mounted(proc: Proc) -> None:
    proc.add(
        "5",
        2,
        ("8:9", "/", "/"),
        ("8:1", "/srv/grants/reservations/ab", "/anywhere"),
        ("8:1", "/srv/grants/devices/npu0pe0", "/dev/furiosa/npu0pe0"),
    )
    assert proc.files().of(5) == {"reservations/ab", "devices/npu0pe0"}


@pytest.mark.parametrize(
    "mount",
    [
        ("8:2", "/srv/grants/reservations/ab", "/x"),  # of another file system
        ("8:1", "/grants/reservations/ab", "/x"),  # somewhere else in it
        ("8:1", "/srv/grants", "/x"),  # the folder is no grant
        ("8:1", "/srv/grantsx/reservations/ab", "/x"),
        ("8:1", "/other", "/srv/grants/reservations/ab"),  # only the mount point looks like it
        ("8:1", "/srv/grants/reservations/ab//deleted", "/x"),
    ],
)
def test_what_is_no_grant(proc: Proc, mount: tuple[str, str, str]) -> None:
    proc.add("5", 2, mount)
    assert proc.files().of(5) == frozenset()


def test_who_sees_what_the_broker_sees_was_given_nothing(proc: Proc) -> None:
    proc.add("5", 1, ("8:1", "/srv/grants/manager", "/x"))
    assert proc.files().of(5) == frozenset()


def test_who_is_not_there_has_nothing(proc: Proc) -> None:
    assert proc.files().of(5) == frozenset()


def test_all_who_have_a_grant_are_found_by_what_their_namespace_has(proc: Proc) -> None:
    mine = ("8:1", "/srv/grants/reservations/ab", "/x")
    proc.add("5", 2, mine)
    proc.add("9", 2, mine)
    proc.add("7", 3, mine, ("8:1", "/srv/grants/manager", "/y"))
    proc.add("8", 4)
    proc.add("6", 1, mine)
    assert proc.files().holders() == {"reservations/ab": (5, 7, 9), "manager": (7,)}


def test_one_that_ends_while_it_is_read_does_not_hide_its_neighbours(proc: Proc) -> None:
    proc.add("5", 2, ("8:1", "/srv/grants/reservations/ab", "/x"))
    proc.add("4", 2)
    (proc.folder / "4" / "mountinfo").unlink()
    files = proc.files()
    os.rename(proc.folder / "4" / "ns" / "mnt", proc.folder / "4" / "ns" / "was")
    assert files.holders() == {"reservations/ab": (5,)}


def test_files_are_there_for_every_device_and_stay_the_same_ones(proc: Proc) -> None:
    files = proc.files()
    device = DeviceFile.parse("npu0pe0")
    files.offer([device])
    before = (proc.grants / "devices" / "npu0pe0").stat().st_ino
    files.offer([device])
    after = (proc.grants / "devices" / "npu0pe0").stat()
    assert (after.st_ino, after.st_mode & 0o777) == (before, 0o444)
    assert (proc.grants / "manager").exists()


def test_reservations_come_and_go(proc: Proc) -> None:
    files = proc.files()
    for name in ("a", "b", "c"):
        files.put(name, [DeviceFile.parse("npu0pe0"), DeviceFile.parse("npu1")])
    assert files.path("a").read_text() == "npu0pe0\nnpu1\n"
    files.drop("a")
    files.drop("a")
    files.keep_only(["b", "d"])
    assert [path.name for path in (proc.grants / "reservations").iterdir()] == ["b"]
