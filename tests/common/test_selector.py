import pytest

from furiosa.common.errors import BadDeviceSpec, UnknownDevice
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec, find

TWO_CARDS = [
    DeviceFile.parse(f"npu{card}{cores}")
    for card in (0, 1)
    for cores in ("", "pe0", "pe1", "pe0-1")
]


def found(spec: str, busy: str = "") -> str | None:
    taken = [DeviceFile.parse(b) for b in busy.split()]
    files = find(DeviceSpec.parse(spec), TWO_CARDS, taken)
    return None if files is None else " ".join(map(str, files))


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


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("warboy(1)*4", "npu0pe0 npu0pe1 npu1pe0 npu1pe1"),
        ("warboy(2)*2", "npu0pe0-1 npu1pe0-1"),
        ("warboy(1)*1,npu:0:0", "npu0pe0 npu0pe1"),
        ("warboy(2)*1,npu:0:0", "npu0pe0 npu1pe0-1"),
        ("warboy(1)*1,npu:0:0-1", "npu0pe0-1 npu1pe0"),
        ("npu:1", "npu1"),
    ],
)
def test_idle_cards_give_the_published_files(spec: str, files: str) -> None:
    assert found(spec) == files


@pytest.mark.parametrize(
    "spec", ["npu:0:0,npu:0:0", "warboy(1)*5", "warboy(2)*3", "npu:2:0", "npu:0:0,npu:0"]
)
def test_what_no_waiting_can_give_is_unknown(spec: str) -> None:
    with pytest.raises(UnknownDevice):
        found(spec)


def test_a_single_core_blocks_the_fused_file_of_its_card_only() -> None:
    assert found("warboy(2)*1", busy="npu0pe1") == "npu1pe0-1"
    assert found("warboy(2)*2", busy="npu0pe1") is None
    assert found("warboy(1)*1", busy="npu0pe0") == "npu0pe1"
    assert found("npu:0", busy="npu0pe1") is None
