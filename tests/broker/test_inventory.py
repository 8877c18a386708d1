from pathlib import Path

from furiosa.broker.devices import Holder, Sensors
from furiosa.broker.inventory import Inventory, processes
from furiosa.broker.platform import VirtualPlatform
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Availability,
    Health,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    ProcessView,
)
from furiosa.sysfs import discover
from support.virtual_cards import overheat, set_alive

FULL = Sensors(True, 41_000, 2_000_000)


def files(*names: str) -> tuple[DeviceFile, ...]:
    return tuple(map(DeviceFile.parse, names))


def lease(id: str, pid: int, *names: str, remote: str = "") -> LeaseView:
    owner = OwnerView(pid, 0, 0, 0, f"python {id}", remote=remote)
    return LeaseView(id, files(*names), LeaseState.GRANTED, owner, 0.0)


def written(root: Path, cards: int) -> Inventory:
    VirtualPlatform(root, cards, machine="m").write()
    return Inventory(root, discover(root), lambda npu: (Availability.AVAILABLE, ""))


def foreign(*holders: tuple[int, str]) -> dict[DeviceFile, tuple[Holder, ...]]:
    found: dict[DeviceFile, tuple[Holder, ...]] = {}
    for pid, name in holders:
        file = DeviceFile.parse(name)
        found[file] = (*found.get(file, ()), Holder(pid, 0, f"cat {pid}", file))
    return found


async def test_before_the_first_look_sensors_are_read_now(tmp_path: Path) -> None:
    inventory = written(tmp_path, 1)
    overheat(tmp_path, 0, 77_000)
    (device,) = await inventory.devices(())
    assert (device.health, device.temperature_millicelsius) == (Health.ALIVE, 77_000)


async def test_after_a_look_nothing_is_read(tmp_path: Path) -> None:
    inventory = written(tmp_path, 2)
    set_alive(tmp_path, 0, "0")
    inventory.update(inventory.cards, {0: FULL}, {})
    first, second = await inventory.devices(())
    assert (first.health, first.temperature_millicelsius, first.power_microwatts) == (
        Health.ALIVE,
        41_000,
        2_000_000,
    )
    assert (second.health, second.temperature_millicelsius) == (Health.DEAD, None)
    assert [str(core) for core in second.cores] == ["unavailable", "unavailable"]


async def test_cards_that_come_and_go_are_shown(tmp_path: Path) -> None:
    inventory = written(tmp_path, 2)
    (_, second) = inventory.cards
    inventory.update((second,), {1: FULL}, {})
    assert [device.name for device in await inventory.devices(())] == ["npu1"]
    assert {file.npu for file in inventory.files} == {1}
    inventory.update((), {}, {})
    assert await inventory.devices(()) == ()
    assert inventory.origin is Origin.HARDWARE


async def test_a_core_is_occupied_by_leases_and_by_holders_without_one(tmp_path: Path) -> None:
    inventory = written(tmp_path, 2)
    sensors = {0: FULL, 1: FULL}
    inventory.update(inventory.cards, sensors, foreign((7, "npu1pe1")))
    first, second = await inventory.devices((lease("a", 1, "npu0pe0-1"),))
    assert [str(core) for core in first.cores] == ["occupied by npu0pe0-1"] * 2
    assert [str(core) for core in second.cores] == ["available", "occupied by npu1pe1"]
    assert inventory.foreign == foreign((7, "npu1pe1"))


async def test_a_card_that_must_not_be_leased_says_why(tmp_path: Path) -> None:
    VirtualPlatform(tmp_path, 3, machine="m").write()
    said = {
        1: (Availability.CORDONED, "a new fan"),
        2: (Availability.UNAVAILABLE, "the card is too hot"),
    }
    inventory = Inventory(
        tmp_path, discover(tmp_path), lambda npu: said.get(npu, (Availability.AVAILABLE, ""))
    )
    devices = await inventory.devices((lease("a", 1, "npu1pe0"),))
    assert [(device.availability, device.reason) for device in devices] == [
        (Availability.AVAILABLE, ""),
        (Availability.CORDONED, "a new fan"),
        (Availability.UNAVAILABLE, "the card is too hot"),
    ]
    assert [[str(core) for core in device.cores] for device in devices] == [
        ["available", "available"],
        ["occupied by npu1pe0", "unavailable"],
        ["unavailable", "unavailable"],
    ]


def test_processes_come_by_name_as_text_and_then_by_pid() -> None:
    leases = (lease("b", 9, "npu2pe0"), lease("a", 5, "npu10pe0", "npu10pe1", remote="host:1"))
    rows = processes(leases, foreign((30, "npu10pe0"), (4, "npu10pe0"), (8, "npu0")))
    npu0, npu10pe0, npu10pe1, npu2pe0 = files("npu0", "npu10pe0", "npu10pe1", "npu2pe0")
    assert rows == (
        ProcessView(npu0, 8, "cat 8", ""),
        ProcessView(npu10pe0, 4, "cat 4", ""),
        ProcessView(npu10pe0, 5, "python a", "a", "host:1"),
        ProcessView(npu10pe0, 30, "cat 30", ""),
        ProcessView(npu10pe1, 5, "python a", "a", "host:1"),
        ProcessView(npu2pe0, 9, "python b", "b"),
    )
