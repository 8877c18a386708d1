"""Published labels, and values that labels may have."""

import re
from dataclasses import replace

import pytest

from furiosa.featurediscovery.labels import Machine, feature_file, fitting, labels
from support.shown_devices import a_device

CARD = replace(a_device(0), driver_version="1.3.0, a1b2c3d")
MACHINE = Machine("Example Corp.", "Board (rev 2)")


def test_the_published_labels() -> None:
    assert feature_file(labels([CARD, CARD], MACHINE, later=False)) == (
        "beta.furiosa.ai/npu.count=2\n"
        "beta.furiosa.ai/npu.product=warboy\n"
        "beta.furiosa.ai/npu.family=warboy\n"
        "beta.furiosa.ai/machine.vendor=Example-Corp\n"
        "beta.furiosa.ai/machine.name=Board-rev-2\n"
        "beta.furiosa.ai/driver.version=1.3.0\n"
        "beta.furiosa.ai/driver.version.major=1\n"
        "beta.furiosa.ai/driver.version.minor=3\n"
        "beta.furiosa.ai/driver.version.patch=0\n"
        "beta.furiosa.ai/driver.reference=a1b2c3d\n"
    )


def test_the_later_labels_come_beside_them() -> None:
    before, found = (labels([CARD], Machine(), later=later) for later in (False, True))
    assert {name: value for name, value in found.items() if name not in before} == {
        "furiosa.ai/npu.count": "1",
        "furiosa.ai/npu.family": "warboy",
        "furiosa.ai/npu.product": "warboy",
        "furiosa.ai/npu.driver.version": "1.3.0",
        "furiosa.ai/npu.driver.version.major": "1",
        "furiosa.ai/npu.driver.version.minor": "3",
        "furiosa.ai/npu.driver.version.patch": "0",
        "furiosa.ai/npu.driver.version.metadata": "a1b2c3d",
    }


def test_what_cards_do_not_agree_on_is_left_out() -> None:
    other = replace(CARD, driver_version="1.4.0, a1b2c3d")
    found = labels([CARD, other], Machine(), later=True)
    assert not [name for name in found if "driver" in name]
    assert found["beta.furiosa.ai/npu.count"] == "2"


@pytest.mark.parametrize("version", ["", "unknown", "1.3"])
def test_a_driver_that_says_nothing_useful_has_no_labels(version: str) -> None:
    found = labels([replace(CARD, driver_version=version)], Machine(), later=True)
    assert not [name for name in found if "driver" in name]


def test_a_node_without_cards_has_no_labels() -> None:
    assert feature_file(labels([], MACHINE, later=True)) == ""


@pytest.mark.parametrize(
    "text", ["", "  ", "--", "a" * 80, "a" * 62 + ".b", "Größe\n=1", "x\x00y", "..edge..", "日本"]
)
def test_any_text_becomes_a_value_or_nothing(text: str) -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", fitting(text))
