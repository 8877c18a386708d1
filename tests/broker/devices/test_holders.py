import os
import resource
import sys
from pathlib import Path

import pytest

from furiosa.broker.devices import Holder, foreign
from furiosa.broker.devices.holders import Nodes, holders
from furiosa.broker.platform import VirtualPlatform
from furiosa.common.names import DeviceFile
from furiosa.sysfs import Card, discover
from support.holding import holding

PE0, PE1, FUSED, WHOLE = map(DeviceFile.parse, ("npu0pe0", "npu0pe1", "npu0pe0-1", "npu0"))


@pytest.fixture
def cards(tmp_path: Path) -> tuple[Card, ...]:
    VirtualPlatform(tmp_path, 2, machine="m").write()
    return discover(tmp_path)


def test_who_has_a_device_file_open_is_found_until_he_closes_it(
    tmp_path: Path, cards: tuple[Card, ...]
) -> None:
    nodes = Nodes.of(tmp_path, cards)
    with holding(tmp_path / "dev/npu1pe0", tmp_path / "dev/npu0", tmp_path / "dev/npu0") as pid:
        found = holders(nodes)
        assert [(str(holder.device_file), holder.pid, holder.uid) for holder in found] == [
            ("npu0", pid, os.getuid()),
            ("npu1pe0", pid, os.getuid()),
        ]
        assert found[0].command_line.startswith(f"{sys.executable} -S -c import sys; held")
        assert found[0].command_line.endswith(f"{tmp_path}/dev/npu0")
    assert holders(nodes) == ()


def test_a_tree_behind_a_symbolic_link_is_the_same_tree(
    tmp_path: Path, cards: tuple[Card, ...]
) -> None:
    (link := tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with holding(tmp_path / "dev/npu0pe0") as pid:
        assert [holder.pid for holder in holders(Nodes.of(link, cards))] == [pid]


def test_other_files_of_a_card_do_not_count(tmp_path: Path, cards: tuple[Card, ...]) -> None:
    with holding(tmp_path / "dev/npu0_mgmt", tmp_path / "dev/npu0ch0"):
        assert holders(Nodes.of(tmp_path, cards)) == ()


def test_this_process_and_those_named_are_left_out(tmp_path: Path, cards: tuple[Card, ...]) -> None:
    nodes = Nodes.of(tmp_path, cards)
    with open(tmp_path / "dev/npu0pe0"):
        assert holders(nodes) == ()
        with holding(tmp_path / "dev/npu0pe0") as pid:
            assert [holder.pid for holder in holders(nodes)] == [pid]
            assert holders(nodes, skip={pid}) == ()
            assert holders(nodes, enter=lambda at: at != f"pid {pid}") == ()


def test_a_broker_without_descriptors_says_so_and_takes_nobody_for_gone(
    tmp_path: Path, cards: tuple[Card, ...]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    nodes = Nodes.of(tmp_path, cards)

    def short(at: str) -> bool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        return True

    with holding(tmp_path / "dev/npu0pe0"):
        try:
            with pytest.raises(OSError, match="Too many open files"):
                holders(nodes, enter=short)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(holders(nodes)) == 1


def test_a_device_node_is_known_by_its_number_under_any_name(tmp_path: Path) -> None:
    """/dev/full stands in for a node, known here as npu0pe0; others may have it open."""
    nodes = Nodes(numbers={os.stat("/dev/full").st_rdev: PE0})
    with holding(Path("/dev/full"), Path("/dev/zero")) as pid:
        found = [(holder.pid, holder.device_file) for holder in holders(nodes)]
        assert [holder for holder in found if holder[0] == pid] == [(pid, PE0)]


def test_a_plain_file_with_a_nodes_name_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/full").touch()
    with holding(tmp_path / "dev/full") as pid:
        found = holders(Nodes(numbers={os.stat("/dev/full").st_rdev: PE0, 0: PE1}))
        assert pid not in {holder.pid for holder in found}


def fake_process(proc: Path, pid: int, *, status: str | None, opened: Path) -> None:
    (proc / f"{pid}/fd").mkdir(parents=True)
    (proc / f"{pid}/fd/3").symlink_to(opened)
    (proc / f"{pid}/cmdline").write_bytes(b"cat\0-u\0")
    if status is not None:
        (proc / f"{pid}/status").write_text(status)


def test_processes_that_end_or_hide_are_not_there(tmp_path: Path, cards: tuple[Card, ...]) -> None:
    proc, opened = tmp_path / "proc", tmp_path / "dev/npu0pe0"
    fake_process(proc, 10**9 + 7, status="Name:\tcat\nUid:\t5\t6\t7\t8\nGid:\t9\n", opened=opened)
    fake_process(
        proc, 10**9 + 9, status=None, opened=opened
    )  # gone since its descriptors were read
    (proc / "1000000011").mkdir()  # gone before
    (proc / "self").mkdir()
    assert holders(Nodes.of(tmp_path, cards), proc=proc) == (Holder(10**9 + 7, 5, "cat -u", PE0),)


def test_without_cards_no_process_is_looked_at(tmp_path: Path) -> None:
    assert holders(Nodes.of(tmp_path, ()), proc=tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("held", "leased", "covered"),
    [
        (PE0, (PE0,), True),
        (PE0, (FUSED,), True),
        (PE0, (WHOLE,), True),
        (FUSED, (PE0, PE1), True),
        (FUSED, (WHOLE,), True),
        (WHOLE, (WHOLE,), True),
        (PE0, (), False),
        (PE1, (PE0,), False),
        (FUSED, (PE0,), False),
        (FUSED, (PE1,), False),
        (WHOLE, (FUSED,), False),
        (PE0, (DeviceFile.parse("npu1"),), False),
    ],
)
def test_a_holder_is_foreign_unless_his_leases_cover_the_cores(
    held: DeviceFile, leased: tuple[DeviceFile, ...], covered: bool
) -> None:
    holder = Holder(7, 0, "cat", held)
    owners = {file: {6, 7} for file in leased}
    assert foreign([holder], owners) == ({} if covered else {held: (holder,)})


def test_a_lease_covers_its_owner_only() -> None:
    owner, child = Holder(7, 0, "cat", PE0), Holder(8, 0, "cat", PE0)
    assert foreign([owner, child], {PE0: {7}}) == {PE0: (child,)}
