"""Which files a configuration means. The cases are those of the devices reference, 5.3, and beyond."""

import pytest

from furiosa.common.names import DeviceFile
from furiosa.device import DeviceConfig, DeviceMode
from furiosa.device._core.finding import find
from furiosa.device.errors import DeviceBusy, DeviceNotFound

CARD = ("", "pe0", "pe1", "pe0-1")
FILES = [DeviceFile.parse(f"npu{card}{file}") for card in (0, 1) for file in CARD]
IDLE = {(card, core): True for card in (0, 1) for core in (0, 1)}


def found(config: DeviceConfig | str, *busy: tuple[int, int]) -> str:
    chosen = DeviceConfig.from_str(config) if isinstance(config, str) else config
    available = IDLE | dict.fromkeys(busy, False)
    return " ".join(map(str, find(chosen.wanted, FILES, available)))


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("warboy(1)*4", "npu0pe0 npu0pe1 npu1pe0 npu1pe1"),
        ("warboy(2)*2", "npu0pe0-1 npu1pe0-1"),
        ("warboy(1)*1,npu:0:0", "npu0pe0 npu0pe1"),
        ("warboy(2)*1,npu:0:0", "npu0pe0 npu1pe0-1"),
        ("warboy(1)*1,npu:0:0-1", "npu0pe0-1 npu1pe0"),
        ("npu:1", "npu1"),
    ],
)
def test_named_ones_come_first_and_nothing_overlaps(text: str, files: str) -> None:
    assert found(text) == files


@pytest.mark.parametrize(
    "text", ["npu:0:0,npu:0:0", "npu:0:0,npu:0:0-1", "warboy(1)*5", "warboy(2)*3", "npu:2:0"]
)
def test_fewer_than_asked_for_are_not_found(text: str) -> None:
    with pytest.raises(DeviceNotFound, match=r"^Device .* not found$"):
        found(text)


def test_what_is_in_use_is_busy_and_others_are_taken_instead() -> None:
    assert found("warboy(1)*1", (0, 0)) == "npu0pe1"
    assert found("warboy(2)*1", (0, 1)) == "npu1pe0-1"
    with pytest.raises(DeviceBusy) as caught:
        found("warboy(2)*2", (0, 1))
    assert str(caught.value) == "Device warboy(2)*2 found but still in use"
    with pytest.raises(DeviceBusy, match="npu:0 found"):
        found("npu:0", (0, 1))


def test_whole_cards_and_none() -> None:
    assert found(DeviceConfig(mode=DeviceMode.MultiCore, count=2)) == "npu0 npu1"
    assert found(DeviceConfig(count=0)) == ""
