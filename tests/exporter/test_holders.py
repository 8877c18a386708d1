"""What the kubelet tells of, as cores of cards."""

import pytest

from furiosa.common.names import DeviceFile
from furiosa.common.views import Architecture, Origin
from furiosa.exporter.holders import Container, Holding, holdings
from furiosa.kubelet import ClaimedDevice, HeldDevices, PodsDevices
from furiosa.sysfs import Card

NPU = "beta.furiosa.ai/npu"
CARDS = [
    Card(
        index, Architecture.WARBOY, Origin.EMULATED, f"U{index}", "S", "1", "1", "0000:3b:00.0",
        "1:0", -1, (DeviceFile.parse(f"npu{index}"),), (0, 1), 0,
    )
    for index in (0, 10)
]  # fmt: skip


def held(*ids: str, pod: str = "a", resource: str = NPU) -> HeldDevices:
    return HeldDevices("team", pod, "main", resource, ids)


def cores(*devices: HeldDevices) -> dict[int, list[tuple[str, tuple[int, ...]]]]:
    found = holdings(PodsDevices(devices, ()), CARDS)
    return {npu: [(h.container.pod, h.cores) for h in each] for npu, each in found.items()}


@pytest.mark.parametrize(
    ("id", "npu", "expected"),
    [
        ("npu0", 0, (0, 1)),
        ("npu0pe0", 0, (0,)),
        ("npu0pe1", 0, (1,)),
        ("npu0pe0-1", 0, (0, 1)),
        ("npu10pe1", 10, (1,)),
    ],
)
def test_every_form_of_an_id_is_cores(id: str, npu: int, expected: tuple[int, ...]) -> None:
    assert cores(held(id)) == {npu: [("a", expected)]}


def test_two_cores_of_a_card_given_one_by_one_are_one_holding() -> None:
    assert cores(held("npu0pe1", "npu10pe0"), held("npu0pe0", resource="furiosa.ai/x")) == {
        0: [("a", (0, 1))],
        10: [("a", (0,))],
    }


def test_each_pod_has_its_own() -> None:
    assert cores(held("npu0pe1", pod="b"), held("npu0pe0")) == {0: [("a", (0,)), ("b", (1,))]}


@pytest.mark.parametrize(
    "device",
    [
        held("npu0", resource="other.example/npu"),
        held("npu0", resource="notfuriosa.ai/npu"),
        held("npu0", resource="furiosa.ai.example/npu"),
        held("npu1"),
        held("npu0pe7"),
        held("GPU-0", ""),
    ],
)
def test_what_is_not_of_our_cards_is_left_out(device: HeldDevices) -> None:
    assert cores(device) == {}


def test_a_claim_that_pods_share_is_of_each_of_them() -> None:
    claims = tuple(
        ClaimedDevice("team", pod, "main", "npu.furiosa.ai", "node-1", "npu0pe0-1") for pod in "ab"
    )
    assert holdings(PodsDevices((), claims), CARDS) == {
        0: tuple(Holding(Container("team", pod, "main"), (0, 1)) for pod in "ab")
    }
