import pytest

from furiosa.common.errors import BadDeviceSpec
from furiosa.common.selector import DeviceSpec


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("npu:0", "npu:0"),
        ("npu0", "npu:0"),
        ("npu:007:00", "npu:7:0"),
        ("npu0pe1", "npu:0:1"),
        ("npu:0:0-1", "npu:0:0-1"),
        ("warboy*12", "warboy(1)*12"),
        ("warboy(2)*4", "warboy(2)*4"),
        ("warboy*1,npu:1:0", "warboy(1)*1,npu:1:0"),
    ],
)
def test_printed_form_parses_back(text: str, printed: str) -> None:
    spec = DeviceSpec.parse(text)
    assert str(spec) == printed
    assert DeviceSpec.parse(printed) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0:0",
        "npu0:",
        "npu0pe",
        "npupe0",
        "npu:0:0-1-",
        "npu:0:1-0",
        "npu:0:0-0",
        "warboy",
        "warboy*",
        "*1",
        "some_npu*10",
        "warboy(2*10",
        "Warboy*1",
        "npu:256",
        "warboy*256",
        "npu:0,",
        "npu:0, npu:1",
        " npu:0",
    ],
)
def test_what_the_grammar_rejects_keeps_the_published_prefix(text: str) -> None:
    with pytest.raises(BadDeviceSpec) as caught:
        DeviceSpec.parse(text)
    assert str(caught.value).startswith(f"Failed to parse given message {text}: ")


@pytest.mark.parametrize("text", ["warboy*0", "warboy(2)*0", "npu:0,warboy(1)*00"])
def test_a_request_for_no_device_is_none(text: str) -> None:
    with pytest.raises(BadDeviceSpec, match="asks for no device: expected a count of 1 or more"):
        DeviceSpec.parse(text)
