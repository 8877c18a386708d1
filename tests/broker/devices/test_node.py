import errno
import fcntl
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from furiosa.broker.devices import NodeFault, NodeHeld, open_node
from furiosa.broker.platform import VirtualPlatform
from furiosa.common.names import DeviceFile
from furiosa.common.views import Origin
from furiosa.sysfs import Card, discover

PE0 = DeviceFile.parse("npu0pe0")
FULL = "/dev/full"  # stands in for a device node where one can be made


@pytest.fixture
def card(tmp_path: Path) -> Card:
    VirtualPlatform(tmp_path, 1, machine="m").write()
    return discover(tmp_path)[0]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def refused(root: Path, card: Card, file: DeviceFile = PE0) -> str:
    before = descriptors()
    with pytest.raises(NodeFault) as caught:
        open_node(root, card, file)
    assert descriptors() == before
    assert not isinstance(caught.value, NodeHeld)
    return str(caught.value)


def test_the_descriptor_is_the_node_for_reading_and_writing(tmp_path: Path, card: Card) -> None:
    before = descriptors()
    fd = open_node(tmp_path, card, PE0)
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / "dev/npu0pe0"))
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDWR
        assert not flags & os.O_NONBLOCK
        assert not os.get_inheritable(fd)
        assert descriptors() == before + 1
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["npu0pe7", "npu1pe0"])
def test_only_files_discovery_found_are_opened(tmp_path: Path, card: Card, name: str) -> None:
    (tmp_path / "dev" / name).touch()
    said = refused(tmp_path, card, DeviceFile.parse(name))
    assert said == f"{name} is not a device file of npu0"


def test_a_planted_symbolic_link_is_not_followed(tmp_path: Path, card: Card) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "dev/npu0pe0").unlink()
    (tmp_path / "dev/npu0pe0").symlink_to(tmp_path / "secret")
    assert refused(tmp_path, card).endswith("dev/npu0pe0 is a symbolic link, not a device node")


def test_a_planted_pipe_is_refused_without_waiting(tmp_path: Path, card: Card) -> None:
    (tmp_path / "dev/npu0pe0").unlink()
    os.mkfifo(tmp_path / "dev/npu0pe0")
    assert "is not a plain file" in refused(tmp_path, card)
    assert "is not a character device" in refused(tmp_path, hardware(card))


def hardware(card: Card) -> Card:
    return replace(card, origin=Origin.HARDWARE)


def test_on_hardware_a_plain_file_is_refused(tmp_path: Path, card: Card) -> None:
    assert "dev/npu0pe0 is not a character device" in refused(tmp_path, hardware(card))


def test_a_folder_is_refused(tmp_path: Path, card: Card) -> None:
    (tmp_path / "dev/npu0pe0").unlink()
    (tmp_path / "dev/npu0pe0").mkdir()
    assert "Is a directory" in refused(tmp_path, card)


def test_a_missing_node_is_named(tmp_path: Path, card: Card) -> None:
    (tmp_path / "dev/npu0pe0").unlink()
    assert "No such file or directory: 'npu0pe0'" in refused(tmp_path, card)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "PermissionDenied: [Errno 13] Permission denied"),
        (errno.ENXIO, "IoError: [Errno 6] No such device"),
    ],
)
def test_what_the_kernel_refuses_is_named(
    tmp_path: Path, card: Card, number: int, said: str
) -> None:
    def openat(name: str, flags: int, folder: int) -> int:
        raise OSError(number, os.strerror(number))

    with pytest.raises(NodeFault) as caught:
        open_node(tmp_path, card, PE0, openat=openat)
    assert str(caught.value).startswith(said)


def test_a_node_somebody_else_has_open_is_told_apart(tmp_path: Path, card: Card) -> None:
    def openat(name: str, flags: int, folder: int) -> int:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with pytest.raises(NodeHeld, match="dev/npu0pe0 is held by a process that has no lease on it"):
        open_node(tmp_path, card, PE0, openat=openat)


def full(name: str, flags: int, folder: int) -> int:
    return os.open(FULL, flags)


def test_a_node_of_another_number_than_its_driver_says_is_refused(
    tmp_path: Path, card: Card
) -> None:
    node = os.stat(FULL)
    assert stat.S_ISCHR(node.st_mode)
    said = tmp_path / "sys/class/npu_mgmt/npu0pe0/dev"
    os.close(open_node(tmp_path, hardware(card), PE0, openat=full))
    said.write_text(f"{os.major(node.st_rdev)}:{os.minor(node.st_rdev)}\n")
    os.close(open_node(tmp_path, hardware(card), PE0, openat=full))
    said.write_text("511:0\n")
    with pytest.raises(NodeFault, match=r"is device 1:7, expected 511:0"):
        open_node(tmp_path, hardware(card), PE0, openat=full)
