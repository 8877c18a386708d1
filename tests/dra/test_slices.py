"""What the scheduler chooses from, and that it can never choose one core twice."""

import random
from dataclasses import replace
from typing import Any

import pytest

from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationState, ReservationView
from furiosa.common.views import Availability, CoreState, CoreView, DeviceView, Health
from furiosa.dra.slices import (
    DRIVER,
    Devices,
    Slice,
    complete,
    offered,
    slices,
    without_generation,
)
from support.shown_devices import a_device


def in_use(card: DeviceView, core: int) -> DeviceView:
    file = DeviceFile.parse(f"{card.name}pe{core}")
    cores = [CoreView(core, CoreState.OCCUPIED, file) if c.core == core else c for c in card.cores]
    return replace(card, cores=tuple(cores))


def claimed(*files: str, manager: str = DRIVER) -> ReservationView:
    parsed = tuple(map(DeviceFile.parse, files))
    state = ReservationState.OPEN
    return ReservationView("r", parsed, manager, "uid", "", state, None, (), 0.0, "")


def names(
    *cards: DeviceView, claims: tuple[ReservationView, ...] = (), kind: Devices = Devices.PARTITIONS
) -> list[str]:
    return [str(file) for _, file in offered(cards, claims, kind)]


def made(
    *cards: DeviceView, kind: Devices = Devices.PARTITIONS, version: str = "v1"
) -> tuple[Slice, ...]:
    return slices("node-1", offered(cards, (), kind), kind, version)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Devices.PARTITIONS, ["npu0pe0", "npu0pe1", "npu0pe0-1"]),
        (Devices.WHOLE, ["npu0pe0-1"]),
        (Devices.SINGLE, ["npu0pe0", "npu0pe1"]),
    ],
)
def test_what_of_a_card_is_offered(kind: Devices, expected: list[str]) -> None:
    assert names(a_device(0), kind=kind) == expected


def test_what_somebody_uses_without_a_claim_is_left_out() -> None:
    assert names(in_use(a_device(0), 1)) == ["npu0pe0"]
    of_others = (claimed("npu0pe1", manager="other"),)
    assert names(in_use(a_device(0), 1), claims=of_others) == ["npu0pe0"]


def test_what_a_claim_has_stays_and_so_does_what_its_counters_shut_out() -> None:
    assert names(in_use(a_device(0), 1), claims=(claimed("npu0pe1"),)) == [
        "npu0pe0",
        "npu0pe1",
        "npu0pe0-1",
    ]


def test_broken_cards_are_left_out_and_cordoned_ones_but_for_claims() -> None:
    shut = a_device(0, availability=Availability.CORDONED)
    assert names(shut) == []
    assert names(shut, claims=(claimed("npu0pe1"),)) == ["npu0pe1"]
    assert names(a_device(0, health=Health.DEAD), claims=(claimed("npu0pe1"),)) == []
    assert names(a_device(0, availability=Availability.UNAVAILABLE)) == []


def test_a_device_in_full() -> None:
    card = a_device(1, numa_node=-1, driver_version="1.4.0, a1b2c3d", firmware_version="odd")
    counters, devices = made(card)
    assert counters["sharedCounters"] == [
        {"name": "npu1", "counters": {"pe0": {"value": "1"}, "pe1": {"value": "1"}}}
    ]
    fused = devices["devices"][2]
    assert fused == {
        "name": "npu1pe0-1",
        "attributes": {
            "architecture": {"string": "warboy"},
            "card": {"string": "npu1"},
            "index": {"int": 1},
            "kind": {"string": "fused"},
            "origin": {"string": "hardware"},
            "uuid": {"string": card.uuid},
            "resource.kubernetes.io/pciBusID": {"string": "0000:44:00.0"},
            "driverVersion": {"version": "1.4.0"},
        },
        "capacity": {"cores": {"value": "2"}, "memory": {"value": str(16 * 1024**3)}},
        "consumesCounters": [
            {"counterSet": "npu1", "counters": {"pe0": {"value": "1"}, "pe1": {"value": "1"}}}
        ],
    }
    assert list(devices["devices"][0]["consumesCounters"][0]["counters"]) == ["pe0"]


def test_the_first_version_has_a_part_of_its_own_for_it() -> None:
    (spec,) = made(a_device(0), kind=Devices.WHOLE, version="v1beta1")
    (device,) = spec["devices"]
    assert set(device) == {"name", "basic"}
    assert set(device["basic"]) == {"attributes", "capacity"}


def test_counters_and_devices_stand_apart_within_their_limits() -> None:
    specs = made(*(a_device(index) for index in range(50)))
    assert all(("devices" in spec) != ("sharedCounters" in spec) for spec in specs)
    assert [len(s["sharedCounters"]) for s in specs if "sharedCounters" in s] == [8] * 6 + [2]
    assert [len(s["devices"]) for s in specs if "devices" in s] == [64, 64, 22]
    assert {(s["driver"], s["nodeName"], s["pool"]["name"]) for s in specs} == {
        ("npu.furiosa.ai", "node-1", "node-1")
    }


def test_one_generation_has_all_slices_and_comparing_leaves_it_out() -> None:
    specs = made(a_device(0))
    done = complete(specs, 7)
    assert [spec["pool"] for spec in done] == [
        {"name": "node-1", "generation": 7, "resourceSliceCount": 2}
    ] * 2
    assert tuple(map(without_generation, done)) == specs


def test_a_node_without_cards_has_one_empty_slice() -> None:
    (spec,) = made()
    assert spec["devices"] == []


class Scheduler:
    """Allocates as the real one does: by counters alone."""

    def __init__(self, specs: tuple[Slice, ...]) -> None:
        self.left = {
            (each["name"], counter): int(value["value"])
            for spec in specs
            for each in spec.get("sharedCounters", ())
            for counter, value in each["counters"].items()
        }
        self.devices: dict[str, Any] = {
            device["name"]: device for spec in specs for device in spec.get("devices", ())
        }
        self.allocated: set[str] = set()

    def consumed(self, name: str) -> list[tuple[str, str]]:
        return [
            (each["counterSet"], counter)
            for each in self.devices[name]["consumesCounters"]
            for counter in each["counters"]
        ]

    def allocate(self, name: str) -> bool:
        wanted = self.consumed(name)
        if name in self.allocated or any(self.left[key] < 1 for key in wanted):
            return False
        for key in wanted:
            self.left[key] -= 1
        self.allocated.add(name)
        return True

    def free(self, name: str) -> None:
        for key in self.consumed(name):
            self.left[key] += 1
        self.allocated.remove(name)


@pytest.mark.parametrize("seed", range(20))
def test_devices_exclude_each_other_exactly(seed: int) -> None:
    draw = random.Random(seed)
    scheduler = Scheduler(made(*(a_device(index) for index in range(3))))
    for _ in range(200):
        name = draw.choice(sorted(scheduler.devices))
        if name in scheduler.allocated:
            scheduler.free(name)
            continue
        file = DeviceFile.parse(name)
        is_free = not any(file.overlaps(DeviceFile.parse(other)) for other in scheduler.allocated)
        assert scheduler.allocate(name) is is_free
