"""What a card's files say, collected for somebody else."""

from pathlib import Path

import pytest

from furiosa.common import card_wire
from furiosa.common.errors import BadArgument
from furiosa.common.views import CardPart, CardTexts
from furiosa.proto.broker.v1 import devices_pb2
from furiosa.sysfs import Card, collect, discover, values
from furiosa.sysfs.hwmon import Kind
from support.devtrees import copied, is_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copied("two-cards", tmp_path)


@pytest.fixture
def card(root: Path) -> Card:
    return discover(root, is_device=is_file)[0]


def test_each_part_has_its_files(root: Path, card: Card) -> None:
    own = collect(root, card, CardPart.CARD, clock_ns=lambda: 7)
    assert own.at_ns == 7
    assert own.files["heartbeat"] == "86400"
    assert set(own.files) == {
        "alive",
        "atr_error",
        "fw_version",
        "heartbeat",
        "ne_clk_freq_info",
        "version",
    }
    sensors = collect(root, card, CardPart.SENSORS)
    assert values.sensors(sensors.files, Kind.POWER) == (("PCI Total RMS PWR", 1_250_000),)
    assert "name" not in sensors.files, "of no sensor"
    counters = collect(root, card, CardPart.COUNTERS)
    assert set(counters.files) == {"npu0pe0"}
    assert set(counters.failures) == {"npu0", "npu0pe1", "npu0pe0-1"}


def test_a_file_that_cannot_be_read_hides_no_other(root: Path, card: Card) -> None:
    folder = root / "sys/class/npu_mgmt/npu0_mgmt"
    (folder / "version").unlink()
    (folder / "heartbeat").write_bytes(b"\xff\xfe")
    found = collect(root, card, CardPart.CARD)
    assert found.failures["version"].startswith("IoError: [Errno 2]")
    assert found.failures["heartbeat"].startswith("Incompatible device driver: heartbeat file")
    assert found.files["alive"] == "1"


def test_a_card_without_sensors_has_no_texts_of_them(root: Path, card: Card) -> None:
    folder = root / "sys/bus/pci/devices/0000:3b:00.0/hwmon"
    folder.rename(folder.with_name("gone"))
    assert collect(root, card, CardPart.SENSORS).files == {}


def test_texts_over_the_wire() -> None:
    texts = CardTexts(5, {"alive": "1"}, {"version": "IoError: no"})
    assert card_wire.texts_from_wire(card_wire.texts_to_wire(texts)) == texts
    for part in CardPart:
        asked = card_wire.inspection_to_wire(3, part)
        assert card_wire.inspection_from_wire(asked) == (3, part)
    with pytest.raises(BadArgument, match="part is 0"):
        card_wire.inspection_from_wire(devices_pb2.InspectRequest(npu=1))
