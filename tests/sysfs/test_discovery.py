import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from furiosa.common.names import DeviceFile
from furiosa.common.views import Architecture, Origin
from furiosa.sysfs import Card, discover, hwmon, survey
from furiosa.sysfs.tree import MARKER, MAX_FILE_BYTES
from support.devtrees import copied, is_file, recorded

FOLDER = "sys/class/npu_mgmt/npu1_mgmt"


def files(*names: str) -> tuple[DeviceFile, ...]:
    return tuple(map(DeviceFile.parse, names))


def indexes(root: Path) -> list[int]:
    return [card.index for card in discover(root, is_device=is_file)]


def test_everything_a_card_says_is_read_and_trimmed() -> None:
    root = recorded("one-card")
    (card,) = discover(root, is_device=is_file)
    assert card.incarnation == (root / FOLDER).lstat().st_ino
    assert replace(card, incarnation=0) == (
        Card(
            index=1,
            architecture=Architecture.WARBOY,
            origin=Origin.HARDWARE,
            uuid="00000000-0000-0000-0000-000000000000",
            serial_number="WBYB0000000000000",
            firmware_version="1.6.0, 3c10fd3",
            driver_version="1.4.0, a1b2c3d",
            pci_bdf="0000:44:00.0",
            pci_dev="511:0",
            numa_node=0,
            device_files=files("npu1", "npu1pe0", "npu1pe1", "npu1pe0-1"),
            cores=(0, 1),
            incarnation=0,
        )
    )


def test_cards_come_by_number_and_the_lowest_hwmon_folder_counts() -> None:
    root = recorded("two-cards")
    cards = discover(root, is_device=is_file)
    assert [(card.index, card.numa_node) for card in cards] == [(0, -1), (10, 1)]
    folders = [hwmon.folder(root, card.pci_bdf) for card in cards]
    assert [folder.name for folder in folders if folder] == ["hwmon10", "hwmon2"]


def test_without_a_driver_there_are_no_cards(tmp_path: Path) -> None:
    assert indexes(recorded("no-cards")) == []
    assert indexes(tmp_path) == []


def test_a_foreign_platform_is_hidden_silently(caplog: pytest.LogCaptureFixture) -> None:
    assert indexes(recorded("foreign-platform")) == []
    assert caplog.text == ""


def test_a_card_without_platform_type_is_hidden_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copied("one-card", tmp_path)
    (root / FOLDER / "platform_type").unlink()
    assert indexes(root) == []
    assert caplog.text == ""


def test_a_broken_card_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    assert indexes(recorded("broken-card")) == [1]
    (line,) = caplog.messages
    assert line.startswith(
        "npu0 is left out: Unexpected value: Bad alive value: 7 (only 0 or 1 expected)"
    )
    assert "npu0_mgmt/alive" in line


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("device_uuid", None, "IoError: [Errno 2] No such file or directory"),
        ("device_sn", "", "Incompatible device driver: device_sn file cannot be recognized"),
        ("fw_version", "1.6.0\x1b[2J", "fw_version file cannot be recognized"),
        ("busname", "../../../etc", "busname file cannot be recognized"),
        ("dev", "511", "dev file cannot be recognized"),
        ("soc_rev", "A0", "Unknown architecture, arch: Warboy, rev: A0"),
        ("alive", "yes", "Unexpected value: Bad alive value: yes (only 0 or 1 expected)"),
        ("version", "v" * (MAX_FILE_BYTES + 1), f"has more than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_bad_file_leaves_the_card_out_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, text: str | None, said: str
) -> None:
    root = copied("one-card", tmp_path)
    path = root / FOLDER / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert indexes(root) == []
    (line,) = caplog.messages
    assert line.startswith("npu1 is left out: ")
    assert said in line
    assert file in line or "arch:" in line


def test_a_pipe_in_place_of_a_file_does_not_stop_discovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copied("one-card", tmp_path)
    (root / FOLDER / "fw_version").unlink()
    os.mkfifo(root / FOLDER / "fw_version")
    assert indexes(root) == []
    assert "fw_version file cannot be recognized" in caplog.text


def test_a_file_that_is_not_text_leaves_the_card_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copied("one-card", tmp_path)
    (root / FOLDER / "device_sn").write_bytes(b"\xff\xfe")
    assert indexes(root) == []
    assert "device_sn file cannot be recognized" in caplog.text


@pytest.mark.parametrize("model", ["warboy", "WARBOY"])
def test_letter_case_of_the_architecture_does_not_matter(tmp_path: Path, model: str) -> None:
    root = copied("one-card", tmp_path)
    (root / FOLDER / "device_type").write_text(model)
    (root / FOLDER / "soc_rev").write_text("b0\n")
    assert indexes(root) == [1]


@pytest.mark.parametrize("text", ["-2", "", "east"])
def test_a_numa_node_below_minus_one_is_a_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    root = copied("one-card", tmp_path)
    (root / "sys/bus/pci/devices/0000:44:00.0/numa_node").write_text(text)
    assert indexes(root) == []
    assert f"Unexpected value: Unexpected numa node id: {text} (" in caplog.text


def test_a_kernel_without_numa_has_no_such_file(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    (root / "sys/bus/pci/devices/0000:44:00.0/numa_node").unlink()
    assert [card.numa_node for card in discover(root, is_device=is_file)] == [-1]


def test_on_hardware_only_character_devices_count(caplog: pytest.LogCaptureFixture) -> None:
    assert discover(recorded("one-card")) == ()
    assert "IoError: no device file npu1* in" in caplog.text


def test_on_an_emulated_tree_plain_files_count(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    (root / MARKER).write_text("{}")
    (card,) = discover(root)
    assert card.origin is Origin.EMULATED
    assert card.device_files == files("npu1", "npu1pe0", "npu1pe1", "npu1pe0-1")


def test_cores_are_those_the_files_name(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    for name in ("npu1pe0", "npu1pe1"):
        (root / "dev" / name).unlink()
    assert [card.cores for card in discover(root, is_device=is_file)] == [(0, 1)]
    (root / "dev/npu1pe0-1").unlink()
    assert [card.cores for card in discover(root, is_device=is_file)] == [()]


def test_nothing_new_is_the_same_survey(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    first = survey(root, is_device=is_file)
    assert survey(root, first, is_device=is_file) is first


def test_only_what_has_changed_is_read_anew(tmp_path: Path) -> None:
    root = copied("two-cards", tmp_path)
    first = survey(root, is_device=is_file)
    (root / "dev/npu10pe0").unlink()
    read = []

    def enter(at: str) -> bool:
        read.append(at)
        return True

    second = survey(root, first, is_device=is_file, enter=enter)
    assert read == ["the device tree", "npu10"]
    assert second.cards[0] is first.cards[0]
    assert set(first.cards[1].device_files) - set(second.cards[1].device_files) == {
        *files("npu10pe0")
    }


def test_a_card_that_comes_and_goes_is_seen(tmp_path: Path) -> None:
    root = copied("two-cards", tmp_path)
    first = survey(root, is_device=is_file)
    link = root / "sys/class/npu_mgmt/npu0_mgmt"
    link.rename(tmp_path / "away")
    second = survey(root, first, is_device=is_file)
    assert [card.index for card in second.cards] == [10]
    (tmp_path / "away").rename(link)
    assert survey(root, second, is_device=is_file).cards == first.cards


def test_a_card_made_anew_is_another_incarnation(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    first = survey(root, is_device=is_file)
    shutil.copytree(root / FOLDER, tmp_path / "new")
    (root / FOLDER).rename(tmp_path / "old")
    (tmp_path / "new").rename(root / FOLDER)
    (card,) = survey(root, first, is_device=is_file).cards
    assert card.incarnation != first.cards[0].incarnation
    assert replace(card, incarnation=first.cards[0].incarnation) == first.cards[0]


def test_a_broken_card_is_tried_again_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copied("one-card", tmp_path)
    (root / FOLDER / "soc_rev").write_text("A0")
    found = survey(root, is_device=is_file)
    for _ in range(3):
        found = survey(root, found, is_device=is_file)
    assert found.faults.keys() == {1}
    assert len(caplog.messages) == 1
    (root / FOLDER / "soc_rev").write_text("B0")
    found = survey(root, found, is_device=is_file)
    assert [card.index for card in found.cards] == [1]
    assert found.faults == {}


def test_a_card_nobody_may_enter_stays_as_it_was(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    first = survey(root, is_device=is_file)
    (root / "dev/npu1pe0").unlink()
    assert survey(root, first, enter=lambda at: at != "npu1").cards == first.cards
    assert survey(root, first, enter=lambda at: at != "the device tree") is first


def test_a_broker_without_descriptors_loses_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied("one-card", tmp_path)

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        survey(root, is_device=is_file)


def test_a_card_without_sensors_is_a_card(tmp_path: Path) -> None:
    root = copied("one-card", tmp_path)
    folder = root / "sys/bus/pci/devices/0000:44:00.0/hwmon"
    folder.rename(folder.with_name("elsewhere"))
    (card,) = discover(root, is_device=is_file)
    assert hwmon.folder(root, card.pci_bdf) is None
