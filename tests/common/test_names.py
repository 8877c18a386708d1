from itertools import product

import pytest

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import ALL, CoreRange, DeviceFile


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("npu0", DeviceFile(0, ALL)),
        ("npu1pe0", DeviceFile(1, CoreRange(0, 0))),
        ("npu255pe1", DeviceFile(255, CoreRange(1, 1))),
        ("npu3pe0-1", DeviceFile(3, CoreRange(0, 1))),
        ("npu3pe0-255", DeviceFile(3, CoreRange(0, 255))),
    ],
)
def test_parse_and_print_invert_each_other(text: str, file: DeviceFile) -> None:
    assert DeviceFile.parse(text) == file
    assert str(file) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "npu",
        "npu0_mgmt",
        "npu0ch0",
        "npu65536",
        "npu007",
        "npu0pe00",
        "npu0pe256",
        "npu0pe1-0",
        "npu0pe0-0",
        "npu0pe0-256",
        "npu0pe",
        "xnpu0",
        "npu0 ",
        "npu0\n",
        "npu٣",
        "npu-1",
        "npu0pe0-1-2",
    ],
)
def test_a_bad_name_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(BadDeviceFile, match=r"npu<card>pe<first>-<last>"):
        DeviceFile.parse(text)


CARD = [DeviceFile.parse(t) for t in ("npu0", "npu0pe0", "npu0pe1", "npu0pe0-1")]


def test_files_of_one_card_overlap_unless_they_are_different_single_cores() -> None:
    apart = {
        frozenset((str(a), str(b))) for a, b in product(CARD, CARD) if a != b and not a.overlaps(b)
    }
    assert apart == {frozenset(("npu0pe0", "npu0pe1"))}


def test_cards_never_overlap() -> None:
    assert not DeviceFile.parse("npu0").overlaps(DeviceFile.parse("npu1"))


def test_order_is_whole_card_then_narrow_then_low() -> None:
    shuffled = [CARD[3], CARD[2], CARD[0], CARD[1]]
    assert sorted(shuffled, key=lambda f: f.sort_key) == CARD
