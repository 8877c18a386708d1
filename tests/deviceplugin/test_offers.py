"""Units, their health, and which of them are best together."""

from dataclasses import replace

import pytest

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationState, ReservationView
from furiosa.common.views import (
    Architecture,
    Availability,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    Origin,
)
from furiosa.deviceplugin.offers import (
    Unit,
    files_of,
    label_of,
    offers,
    possible_resources,
    resources,
    units,
)
from furiosa.deviceplugin.preference import prefer
from furiosa.deviceplugin.settings import Disabled, Naming, Policy, Settings

NPU = "beta.furiosa.ai/npu"
SINGLE = Settings(policy=Policy.SINGLE)


def card(index: int, *taken: str, numa: int = 0, bdf: str = "", **changes: object) -> DeviceView:
    held = tuple(map(DeviceFile.parse, taken))

    def core(number: int) -> CoreView:
        for file in held:
            if number in file.cores:
                return CoreView(number, CoreState.OCCUPIED, file)
        return CoreView(number, CoreState.AVAILABLE)

    names = (f"npu{index}", f"npu{index}pe0", f"npu{index}pe1", f"npu{index}pe0-1")
    made = DeviceView(
        index=index,
        architecture=Architecture.WARBOY,
        origin=Origin.EMULATED,
        health=Health.ALIVE,
        uuid="",
        serial_number="",
        firmware_version="",
        driver_version="",
        pci_bdf=bdf or f"0000:{0x44 + index:02x}:00.0",
        pci_dev="",
        numa_node=numa,
        temperature_millicelsius=None,
        power_microwatts=None,
        cores=(core(0), core(1)),
        device_files=tuple(map(DeviceFile.parse, names)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # of the test


def reservation(*ids: str, manager: str = NPU, files: str = "", id: str = "r") -> ReservationView:
    parsed = tuple(map(DeviceFile.parse, files.split(",") if files else ids))
    state = ReservationState.OPEN
    return ReservationView(id, parsed, manager, "", label_of(ids), state, None, (), 0.0, "")


def unhealthy(
    cards: list[DeviceView],
    *reservations: ReservationView,
    settings: Settings = SINGLE,
    lingering: frozenset[str] = frozenset(),
) -> dict[str, str]:
    (resource,) = resources(settings)
    mine = units(cards, settings)[resource]
    found = offers(resource, mine, reservations, lingering, settings, "node")
    return {offer.unit.id: offer.reason for offer in found if not offer.healthy}


@pytest.mark.parametrize(
    ("policy", "naming", "expected"),
    [
        (Policy.WHOLE, Naming.ORIGINAL, {NPU: ["npu0pe0-1"]}),
        (Policy.SINGLE, Naming.ORIGINAL, {NPU: ["npu0pe0", "npu0pe1"]}),
        (Policy.PAIR, Naming.GENERIC, {"furiosa.ai/warboy": ["npu0pe0", "npu0pe1"]}),
        (Policy.WHOLE, Naming.CORES, {"furiosa.ai/warboy-2core.16gb": ["npu0pe0-1"]}),
        (
            Policy.DYNAMIC,
            Naming.CORES,
            {
                "furiosa.ai/warboy-1core.8gb": ["npu0pe0", "npu0pe1"],
                "furiosa.ai/warboy-2core.16gb": ["npu0pe0-1"],
            },
        ),
    ],
)
def test_units_by_policy_and_name(
    policy: Policy, naming: Naming, expected: dict[str, list[str]]
) -> None:
    settings = Settings(policy=policy, naming=naming)
    found = units([card(0)], settings)
    assert {name: [unit.id for unit in each] for name, each in found.items()} == expected
    assert resources(settings) == set(expected) <= possible_resources(settings)


def test_a_card_of_another_policy_is_in_another_resource() -> None:
    settings = Settings(naming=Naming.CORES, cards=((1, Policy.SINGLE),))
    found = units([card(1), card(0)], settings)
    assert [unit.id for unit in found["furiosa.ai/warboy-1core.8gb"]] == ["npu1pe0", "npu1pe1"]
    assert [unit.id for unit in found["furiosa.ai/warboy-2core.16gb"]] == ["npu0pe0-1"]


def test_a_node_without_cards_offers_its_resource_with_nothing_in_it() -> None:
    assert units([], Settings()) == {NPU: ()}


def test_a_core_in_use_elsewhere_is_unhealthy_and_its_sibling_is_not() -> None:
    assert unhealthy([card(0, "npu0pe1")]) == {"npu0pe1": "in use as npu0pe1"}
    whole = Settings()
    assert unhealthy([card(0, "npu0pe1")], settings=whole) == {"npu0pe0-1": "in use as npu0pe1"}


def test_what_a_pod_has_is_healthy_whatever_its_cores_show() -> None:
    cards = [card(0, "npu0pe0")]
    assert unhealthy(cards, reservation("npu0pe0")) == {}
    assert unhealthy(cards, reservation("npu0pe0", manager="other")) == {
        "npu0pe0": "reserved by other as npu0pe0"
    }
    not_shown_yet = [card(0)]
    assert unhealthy(not_shown_yet, reservation("npu0pe0", manager="other")) == {
        "npu0pe0": "reserved by other as npu0pe0"
    }


def test_what_pods_have_left_with_living_processes_is_unhealthy() -> None:
    found = unhealthy([card(0, "npu0pe0")], reservation("npu0pe0"), lingering=frozenset({"r"}))
    assert found == {"npu0pe0": f"reserved by {NPU} as npu0pe0"}


def test_units_of_a_policy_before_shut_those_of_the_present_one_out() -> None:
    """A fused pair that a pod has from before the policy became single."""
    cards = [card(0, "npu0pe0-1"), card(1)]
    assert unhealthy(cards, reservation("npu0pe0-1")) == {
        "npu0pe0": f"reserved by {NPU} as npu0pe0-1",
        "npu0pe1": f"reserved by {NPU} as npu0pe0-1",
    }


def test_units_of_a_merged_pair_are_both_the_pods() -> None:
    both = reservation("npu0pe0", "npu0pe1", files="npu0pe0-1")
    pair = Settings(policy=Policy.PAIR)
    assert unhealthy([card(0, "npu0pe0-1")], both, settings=pair) == {}


@pytest.mark.parametrize("is_given", [False, True])
def test_a_broken_card_is_unhealthy_for_all_and_a_cordoned_one_for_new_pods(
    is_given: bool,
) -> None:
    held = (reservation("npu0pe0", "npu0pe1"),) if is_given else ()
    dead = [card(0, health=Health.DEAD)]
    hot = [card(0, availability=Availability.UNAVAILABLE, reason="too hot")]
    shut = [card(0, availability=Availability.CORDONED, reason="repair")]
    assert unhealthy(dead, *held) == dict.fromkeys(("npu0pe0", "npu0pe1"), "npu0 does not answer")
    assert unhealthy(hot, *held) == dict.fromkeys(("npu0pe0", "npu0pe1"), "npu0: too hot")
    expected = {} if is_given else dict.fromkeys(("npu0pe0", "npu0pe1"), "npu0: repair")
    assert unhealthy(shut, *held) == expected


def test_a_disabled_unit_is_not_offered_unless_a_pod_has_it() -> None:
    settings = replace(SINGLE, disabled=(Disabled("npu0", "node"), Disabled("npu1", "elsewhere")))
    mine = units([card(0), card(1)], settings)[NPU]
    found = offers(NPU, mine, [reservation("npu0pe1")], frozenset(), settings, "node")
    assert [offer.unit.id for offer in found] == ["npu0pe1", "npu1pe0", "npu1pe1"]


def by_id(*cards: DeviceView, policy: Policy = Policy.SINGLE) -> dict[str, Unit]:
    return {unit.id: unit for unit in units(cards, Settings(policy=policy))[NPU]}


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        ("npu0pe0 npu0pe1", "npu0pe0-1"),
        ("npu1pe1 npu0pe1 npu1pe0", "npu0pe1 npu1pe0-1"),
        ("npu1pe1 npu0pe1", "npu0pe1 npu1pe1"),
    ],
)
def test_both_cores_of_a_card_come_fused_where_that_is_the_policy(ids: str, files: str) -> None:
    known = by_id(card(0), card(1), policy=Policy.PAIR)
    assert " ".join(map(str, files_of([known[id] for id in ids.split()]))) == files
    apart = by_id(card(0), card(1))
    assert len(files_of([apart[id] for id in ids.split()])) == len(ids.split())


NEAR = (card(0), card(1), card(2, numa=1), card(3, numa=1))


@pytest.mark.parametrize(
    ("available", "must", "size", "expected"),
    [
        ("npu0pe0 npu0pe1 npu1pe0", "", 2, "npu0pe0 npu0pe1"),  # one card
        ("npu0pe0 npu0pe1 npu1pe0", "", 1, "npu1pe0"),  # the one that is broken into already
        ("npu0pe0 npu1pe0 npu1pe1", "npu0pe0", 2, "npu0pe0 npu1pe0"),
        ("npu0pe0 npu0pe1 npu1pe0", "npu0pe1", 2, "npu0pe1 npu0pe0"),  # what it must, its card
        ("npu0pe0 npu2pe0 npu1pe0", "npu2pe0", 2, "npu2pe0 npu0pe0"),
        ("npu0pe0 npu2pe0 npu3pe0", "npu2pe0", 2, "npu2pe0 npu3pe0"),  # the same NUMA node
        ("npu2pe0 npu2pe1 npu3pe0 npu3pe1", "", 4, "npu2pe0 npu2pe1 npu3pe0 npu3pe1"),
        ("npu0pe0", "", 3, "npu0pe0"),
        ("unknown npu0pe0", "", 2, "npu0pe0 unknown"),
        ("", "gone", 1, "gone"),
        ("npu0pe0", "", 0, ""),
        ("npu0pe0", "", -1, ""),
    ],
)
def test_what_is_preferred(available: str, must: str, size: int, expected: str) -> None:
    known = by_id(*NEAR)
    assert prefer(available.split(), must.split(), size, known) == expected.split()


def test_of_cards_that_are_alike_the_nearest_on_the_bus_is_preferred() -> None:
    far = card(1, bdf="0000:c1:00.0")
    near = card(2, bdf="0000:44:00.1")
    known = by_id(card(0, bdf="0000:44:00.0"), far, near)
    found = prefer(["npu1pe0", "npu2pe0", "npu0pe0"], ["npu0pe0"], 2, known)
    assert found == ["npu0pe0", "npu2pe0"]
