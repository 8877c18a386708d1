import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from furiosa.broker.devices import Sensors, read_counters, read_sensors
from furiosa.broker.platform import Faults, VirtualPlatform, contents
from furiosa.broker.platform.identity import identity
from furiosa.broker.platform.thermal import FULL_CELSIUS, FULL_WATTS, IDLE_CELSIUS, IDLE_WATTS
from furiosa.common.faults import Dead, FaultView, Hot
from furiosa.common.names import DeviceFile
from furiosa.common.views import Architecture, Origin
from furiosa.sysfs import discover, hwmon, utilisation
from furiosa.sysfs.hwmon import Kind
from support.virtual_cards import errors, overheat, pull_out, set_alive, uncounted

PE0, PE1, FUSED, WHOLE = map(DeviceFile.parse, ("npu0pe0", "npu0pe1", "npu0pe0-1", "npu0"))
SECOND = 1_000_000_000
HOT = DeviceFile.parse("npu1")
MGMT = "sys/class/npu_mgmt/npu0_mgmt"


@dataclass(frozen=True)
class Wrong:
    device: int = 0
    fetch: int = 0
    discarded: int = 0


@dataclass(frozen=True)
class Work:
    task_ns: int
    tensor_ns: int


def written(folder: Path, cards: int) -> VirtualPlatform:
    platform = VirtualPlatform(folder, cards, machine="m")
    platform.write()
    return platform


def written_at(folder: Path) -> dict[str, tuple[int, int]]:
    """Tells a file that was written again, also with the same text."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_text()
        if path.is_file()
        else "/"
        for path in folder.rglob("*")
    }


def test_discovery_finds_what_the_platform_writes(tmp_path: Path) -> None:
    written(tmp_path, 3)
    cards = discover(tmp_path)
    assert [card.index for card in cards] == [0, 1, 2]
    for card in cards:
        assert card.architecture is Architecture.WARBOY
        assert card.origin is Origin.EMULATED
        assert card.firmware_version == "1.6.0, 3c10fd3"
        assert card.numa_node == -1
        assert card.cores == (0, 1)
        assert [str(file).removeprefix(f"npu{card.index}") for file in card.device_files] == [
            "", "pe0", "pe1", "pe0-1",
        ]  # fmt: skip
        who = identity("m", card.index)
        assert (card.uuid, card.serial_number) == (who.uuid, who.serial_number)
        assert (card.pci_bdf, card.pci_dev) == (who.pci_bdf, who.pci_dev)
        assert uncounted(read_sensors(tmp_path, card)) == Sensors(
            True, round(IDLE_CELSIUS * 1e3), round(IDLE_WATTS * 1e6)
        )


def test_the_tree_has_every_published_file(tmp_path: Path) -> None:
    written(tmp_path, 1)
    assert set(os.listdir(tmp_path / "dev")) == {
        "npu0", "npu0pe0", "npu0pe1", "npu0pe0-1", "npu0_mgmt",
        "npu0ch0", "npu0ch1", "npu0ch2", "npu0ch3",
    }  # fmt: skip
    assert os.readlink(tmp_path / MGMT) == "../../devices/virtual/npu_mgmt/npu0_mgmt"
    assert set(os.listdir(tmp_path / MGMT)) == {
        "alive", "atr_error", "busname", "dev", "device_sn", "device_type", "device_uuid",
        "fw_version", "heartbeat", "ne_clk_freq_info", "platform_type", "soc_rev", "soc_uid",
        "version", "performance_mode", "performance_level", "device_state", "cur_pe_ids",
        "evb_rev", "reboot_reason", "device_led", "ne_clock", "ne_dtm_policy",
    }  # fmt: skip
    (card,) = discover(tmp_path)
    folder = hwmon.folder(tmp_path, card.pci_bdf)
    assert folder is not None
    assert (folder / "name").read_text() == "npu0\n"
    labels = {kind: [found.label for found in hwmon.channels(folder, kind)] for kind in Kind}
    assert labels == {
        Kind.CURRENT: ["NE 12V Curr", "NE Current", "PCI 12V Curr", "PCI 3.3V Curr"],
        Kind.VOLTAGE: ["NE Core 48V Volt", "NE Core Volt"],
        Kind.POWER: [
            "NE 12V PWR", "NE Core RMS PWR", "NE PWR", "PCI 12V PWR", "PCI 3.3V PWR",
            "PCI Total RMS PWR",
        ],
        Kind.TEMPERATURE: [
            "AMBIENT", "Average", "LPDDR4", "NE", "NE_PE0", "NE_PE1", "NE_TOP", "PCIE", "Peak",
            "U74M",
        ],
    }  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (2, 0), (2, 2)])
def test_a_second_run_leaves_exactly_the_new_cards(tmp_path: Path, before: int, after: int) -> None:
    used, fresh = tmp_path / "used", tmp_path / "fresh"
    platform = written(used, before)
    platform.tick({PE0: Work(5, 5)}, 100.0)
    (used / "dev/.npu0.new").touch()  # what a killed writer leaves
    written(used, after)
    written(fresh, after)
    assert snapshot(used) == snapshot(fresh)
    assert len(discover(used)) == after


def test_a_device_file_somebody_has_open_stays_the_same_file(tmp_path: Path) -> None:
    written(tmp_path, 1)
    before = (tmp_path / "dev/npu0pe0").stat().st_ino
    written(tmp_path, 2)
    assert (tmp_path / "dev/npu0pe0").stat().st_ino == before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/precious").touch()
    with pytest.raises(FileExistsError, match="is not a virtual platform's"):
        VirtualPlatform(tmp_path, 1).write()
    assert snapshot(tmp_path) == {"dev": "/", "dev/precious": ""}


@pytest.mark.parametrize("cards", [-1, 65_537])
def test_an_impossible_number_of_cards_is_refused(tmp_path: Path, cards: int) -> None:
    with pytest.raises(ValueError, match="0 to 65536 are possible"):
        VirtualPlatform(tmp_path, cards)


def test_others_may_read_the_tree_and_not_write_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        written(tmp_path, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / MGMT / "alive").stat().st_mode) == 0o644


def test_counters_are_there_exactly_while_the_file_is_in_use(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    assert read_counters(tmp_path, PE0) is None
    platform.tick({PE0: None}, 10.0)
    reading = read_counters(tmp_path, PE0, clock_ns=lambda: 0)
    assert reading is not None
    assert (reading.task, reading.tensor) == (0, 0)
    assert read_counters(tmp_path, PE1) is None
    platform.tick({}, 11.0)
    assert read_counters(tmp_path, PE0) is None


def test_utilisation_is_what_the_worker_measured(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    readings = []
    for now, work in ((50.0, Work(0, 0)), (52.0, Work(SECOND, SECOND // 4))):
        platform.tick({FUSED: work}, now)
        reading = read_counters(tmp_path, FUSED)
        assert reading is not None
        readings.append(replace(reading, at_ns=int(now * SECOND)))
    found = utilisation(*readings)
    assert (found.npu, found.computation, found.io) == pytest.approx((0.5, 0.25, 0.75))


def test_counters_go_on_when_a_new_worker_counts_from_zero(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    tasks = []
    for now, work in enumerate((Work(100, 80), Work(30, 20), None, Work(5, 5))):
        platform.tick({PE0: work}, float(now))
        reading = read_counters(tmp_path, PE0)
        assert reading is not None
        tasks.append((reading.task, reading.tensor))
    assert tasks == [(100, 80), (130, 100), (130, 100), (135, 105)]


def test_counters_of_the_next_lease_count_in_full(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    platform.tick({PE0: Work(100, 80)}, 0.0)
    platform.tick({}, 1.0)
    platform.tick({PE0: Work(150, 120)}, 2.0)
    reading = read_counters(tmp_path, PE0)
    assert reading is not None
    assert (reading.task, reading.tensor) == (250, 200)


@pytest.mark.parametrize(
    ("files", "load"),
    [((PE0,), 0.5), ((PE0, PE1), 1.0), ((FUSED,), 1.0), ((WHOLE,), 1.0), ((), 0.0)],
)
def test_power_and_heat_follow_the_cores_in_use(
    tmp_path: Path, files: tuple[DeviceFile, ...], load: float
) -> None:
    platform = written(tmp_path, 2)
    platform.tick(dict.fromkeys(files), 0.0)
    for second in range(10, 301, 10):
        work = Work(second * SECOND, second * SECOND)
        platform.tick(dict.fromkeys(files, work), float(second))
    busy, idle = (read_sensors(tmp_path, card) for card in discover(tmp_path))
    assert busy.power_microwatts == round((IDLE_WATTS + load * (FULL_WATTS - IDLE_WATTS)) * 1e6)
    assert busy.temperature_millicelsius == pytest.approx(
        (IDLE_CELSIUS + load * (FULL_CELSIUS - IDLE_CELSIUS)) * 1e3, abs=2
    )
    assert uncounted(idle) == Sensors(True, round(IDLE_CELSIUS * 1e3), round(IDLE_WATTS * 1e6))


def test_sensors_average_over_a_second_of_short_ticks(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    (card,) = discover(tmp_path)
    platform.tick({FUSED: Work(0, 0)}, 0.0)
    watts = []
    for tick, busy in enumerate((250, 250, 250, 500), 1):
        platform.tick({FUSED: Work(busy * 1_000_000, 0)}, tick * 0.25)
        watts.append(read_sensors(tmp_path, card).power_microwatts)
    idle = round(IDLE_WATTS * 1e6)
    assert watts == [idle, idle, idle, round((IDLE_WATTS + FULL_WATTS) / 2 * 1e6)]


def test_the_heartbeat_counts_seconds(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    platform.tick({}, 1000.0)
    platform.tick({}, 1086.9)
    assert (tmp_path / MGMT / "heartbeat").read_text() == "86\n"


def temperature(root: Path) -> int | None:
    (card,) = discover(root)
    return read_sensors(root, card).temperature_millicelsius


def test_a_card_can_be_made_to_fail_by_hand(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    (tmp_path / MGMT / "alive").write_text("0\n")
    platform.tick({}, 1.0)
    (card,) = discover(tmp_path)
    assert read_sensors(tmp_path, card).alive is False


def test_a_card_can_be_made_too_hot_by_hand_while_it_works(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    overheat(tmp_path, 0, 99_000)
    for now in (0.0, 1.0, 2.0):
        platform.tick({PE0: Work(int(now * SECOND), 0)}, now)
    assert temperature(tmp_path) == 99_000
    written(tmp_path, 1)
    assert temperature(tmp_path) == round(IDLE_CELSIUS * 1e3)


def test_a_card_whose_files_are_gone_stays_gone_and_stops_no_other(tmp_path: Path) -> None:
    platform = written(tmp_path, 2)
    (card, _) = discover(tmp_path)
    shutil.rmtree(tmp_path / "sys/bus/pci/devices" / card.pci_bdf)
    shutil.rmtree(tmp_path / "sys/class/npu_mgmt/npu0pe0")
    pull_out(tmp_path, 0)
    other = DeviceFile.parse("npu1pe0")
    for now in (0.0, 1.0, 2.0):
        platform.tick(dict.fromkeys((PE0, other), Work(int(now * SECOND), 0)), now)
    platform.tick({}, 3.0)
    assert [card.index for card in discover(tmp_path)] == [1]
    (warm,) = discover(tmp_path)
    assert (read_sensors(tmp_path, warm).temperature_millicelsius or 0) > IDLE_CELSIUS * 1e3


def test_idle_cards_cost_one_file_a_second(tmp_path: Path) -> None:
    platform = written(tmp_path, 64)
    before = written_at(tmp_path)
    for now in range(5):
        platform.tick({}, float(now))
    after = written_at(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {
        "sys/devices/virtual/npu_mgmt/heartbeat"
    }
    assert (tmp_path / "sys/class/npu_mgmt/npu63_mgmt/heartbeat").read_text() == "4\n"


def test_a_card_that_has_cooled_down_costs_nothing_again(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    platform.tick({PE0: Work(0, 0)}, 0.0)
    platform.tick({PE0: Work(10 * SECOND, 0)}, 10.0)
    assert temperature(tmp_path) != round(IDLE_CELSIUS * 1e3)
    platform.tick({}, 1000.0)
    assert temperature(tmp_path) == round(IDLE_CELSIUS * 1e3)
    cold = written_at(tmp_path)
    platform.tick({}, 2000.0)
    assert [name for name, at in written_at(tmp_path).items() if at != cold[name]] == [
        "sys/devices/virtual/npu_mgmt/heartbeat"
    ]


def test_more_cards_than_a_specification_can_name_are_found(tmp_path: Path) -> None:
    VirtualPlatform(tmp_path, 301, machine="m").write()
    cards = discover(tmp_path)
    assert [card.index for card in cards] == list(range(301))
    assert len({card.pci_bdf for card in cards}) == 301
    assert str(cards[300].device_files[3]) == "npu300pe0-1"


def test_a_reader_in_the_middle_of_a_write_has_the_whole_old_file(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    platform.tick({PE0: Work(1, 1)}, 1.0)
    path = tmp_path / "sys/class/npu_mgmt/npu0pe0/perf_regs"
    before = path.read_text()
    with path.open() as reader:
        platform.tick({PE0: Work(2, 2)}, 2.0)
        assert reader.read() == before
    assert path.read_text() != before


def test_a_file_of_another_platform_is_refused(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    with pytest.raises(KeyError, match="npu7pe0"):
        platform.tick({DeviceFile.parse("npu7pe0"): None}, 1.0)


def test_a_dead_card_and_a_hot_one_show_it_and_are_well_again_at_once(tmp_path: Path) -> None:
    platform = written(tmp_path, 3)
    well = snapshot(tmp_path)
    ill = Faults((FaultView(DeviceFile.parse("npu0"), Dead()), FaultView(HOT, Hot(120))))
    platform.tick({}, 1.0, faults=ill)
    cards = discover(tmp_path)
    alive = [read_sensors(tmp_path, card).alive for card in cards]
    heat = [read_sensors(tmp_path, card).temperature_millicelsius for card in cards]
    assert (alive, heat) == ([False, True, True], [40_000, 120_000, 40_000])
    folder = hwmon.folder(tmp_path, cards[1].pci_bdf)
    assert folder is not None
    every = [hwmon.value(place.path) for place in hwmon.channels(folder, Kind.TEMPERATURE)]
    assert max(every) == 120_000
    assert min(every) == 44_000, "places that are cooler stay so"
    platform.tick({}, 1.5)
    assert {**snapshot(tmp_path), contents.HEARTBEAT: "0\n"} == well


def test_a_hot_card_goes_on_working_and_shows_it_when_it_is_well_again(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    (card,) = discover(tmp_path)
    hot = Faults((FaultView(DeviceFile.parse("npu0"), Hot()),))
    platform.tick({FUSED: Work(0, 0)}, 0.0, faults=hot)
    platform.tick({FUSED: Work(300 * SECOND, 0)}, 300.0, faults=hot)
    full = round(FULL_WATTS * 1e6)
    assert uncounted(read_sensors(tmp_path, card)) == Sensors(True, 99_000, full)
    platform.tick({FUSED: Work(300 * SECOND, 0)}, 300.5)
    assert read_sensors(tmp_path, card).temperature_millicelsius == pytest.approx(
        FULL_CELSIUS * 1e3, abs=2
    )


def test_what_somebody_wrote_by_hand_outlives_a_fault(tmp_path: Path) -> None:
    platform = written(tmp_path, 1)
    set_alive(tmp_path, 0, "0")
    platform.tick({}, 1.0, faults=Faults((FaultView(DeviceFile.parse("npu0"), Dead()),)))
    platform.tick({}, 2.0)
    (card,) = discover(tmp_path)
    assert read_sensors(tmp_path, card).alive is False
    set_alive(tmp_path, 0, "1")
    platform.tick({}, 3.0, faults=Faults((FaultView(DeviceFile.parse("npu0"), Dead()),)))
    assert read_sensors(tmp_path, card).alive is False


def test_errors_of_a_card_are_those_of_its_files_together(tmp_path: Path) -> None:
    platform = written(tmp_path, 2)
    counts = {PE0: Wrong(1, 20, 300), FUSED: Wrong(1, 0, 0), HOT: Wrong(fetch=5)}
    platform.tick({}, 1.0, errors=counts)
    assert errors(tmp_path, 0) == {
        "PCIe Fetch Error": 20,
        "PCIe Discard Error": 300,
        "Device Error": 2,
    }
    assert errors(tmp_path, 1) == {"PCIe Fetch Error": 5}
    lines = (tmp_path / MGMT / "atr_error").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines][3:] == [
        "AXI Doorbell done", "PCIe Post Error", "PCIe Fetch Error", "PCIe Discard Error",
        "PCIe Doorbell done", "Device Error",
    ]  # fmt: skip
    written(tmp_path, 2)
    assert errors(tmp_path, 0) == {}, "a new broker counts from 0"
