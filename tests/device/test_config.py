"""DeviceConfig: which devices to find."""

import pytest

from furiosa.device import Arch, DeviceConfig, DeviceMode
from furiosa.device.errors import ParseError


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (DeviceConfig(), "warboy(2)*1"),
        (DeviceConfig(mode=DeviceMode.Single, count=3), "warboy(1)*3"),
        (DeviceConfig(Arch.WarboyB0, DeviceMode.Fusion, 0), "warboy(2)*0"),
        (DeviceConfig(Arch.WarboyA0, DeviceMode.MultiCore, 255), "warboy*255"),
    ],
)
def test_its_text(config: DeviceConfig, text: str) -> None:
    assert repr(config) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("npu:0", "npu:0"),
        ("npu0", "npu:0"),
        ("npu0pe1", "npu:0:1"),
        ("npu:0:0-1", "npu:0:0-1"),
        ("warboy*12", "warboy(1)*12"),
        ("warboy(7)*2", "warboy(7)*2"),
        ("warboy(2)*1,npu1pe0", "warboy(2)*1,npu:1:0"),
    ],
)
def test_text_and_back(text: str, printed: str) -> None:
    config = DeviceConfig.from_str(text)
    assert repr(config) == printed
    assert DeviceConfig.from_str(printed) == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0:0",
        "0:0-1, 1:0-1",
        "npu0:",
        "npupe0",
        "npu:0:1-0",
        "warboy",
        "Warboy*1",
        "npu:256",
    ],
)
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(ParseError, match=r"^Failed to parse given message ") as caught:
        DeviceConfig.from_str(text)
    assert str(caught.value).startswith(f"Failed to parse given message {text}: ")
    assert isinstance(caught.value, RuntimeError)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_NPUS", "npu:0:1")
    assert repr(DeviceConfig.from_env("MY_NPUS")) == "npu:0:1"
    monkeypatch.setenv("MY_NPUS", "nonsense")
    with pytest.raises(ParseError, match="nonsense"):
        DeviceConfig.from_env("MY_NPUS")
    monkeypatch.delenv("MY_NPUS")
    with pytest.raises(RuntimeError) as caught:
        DeviceConfig.from_env("MY_NPUS")
    unset = "Failed to parse given message : fallback device config is not set"
    assert str(caught.value) == unset


@pytest.mark.parametrize("arch", [Arch.Renegade, Arch.RNGD, Arch.U250])
def test_other_architectures_are_refused(arch: Arch) -> None:
    with pytest.raises(RuntimeError) as caught:
        DeviceConfig(arch)
    assert str(caught.value) == f"Invalid architecture: Not supported architecture '{arch.value}'"


@pytest.mark.parametrize(
    ("count", "error"), [(-1, OverflowError), (256, OverflowError), ("1", TypeError)]
)
def test_a_count_is_a_byte(count: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="count: expected"):
        DeviceConfig(count=count)
