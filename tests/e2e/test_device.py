"""furiosa.device through a real broker: what a program sees of cards, and of who has them."""

import signal
from collections.abc import Iterator

import pytest

from furiosa import device
from furiosa.device import CoreStatus, CoreStatusType, sync
from furiosa.device.errors import BrokerError, DeviceBusy, DeviceNotFound, IoError
from furiosa.runtime.sync import Runtime, create_runner
from support import digits
from support.daemon import Daemon

AVAILABLE = CoreStatus(CoreStatusType.Available)


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(2, "--recall-grace", "0.2")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(autouse=True)
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    return shared


def occupied(file: str) -> CoreStatus:
    return CoreStatus(CoreStatusType.Occupied, file)


async def test_cards_are_those_of_the_broker() -> None:
    assert repr(await device.list_devices()) == "[npu0, npu1]" == repr(sync.list_devices())
    card = sync.list_devices()[1]
    assert card.alive()
    assert card.core_num() == 2
    assert repr(card.dev_files()) == "[npu1, npu1pe0, npu1pe1, npu1pe0-1]"
    assert card.dev_files()[0].path() == "/dev/npu1"
    assert len(card.atr_error()) == 9
    assert [clock.value for clock in card.clock_frequency()] == [2000, 1000, 1000, 4266]
    assert card.heartbeat() >= 0
    fetcher = card.get_hwmon_fetcher()
    assert {sensor.label for sensor in fetcher.read_temperatures()} >= {"Peak", "AMBIENT"}
    for read in (fetcher.read_currents, fetcher.read_voltages, fetcher.read_powers_average):
        assert read()


async def test_a_core_is_occupied_by_the_file_that_is_leased() -> None:
    (card, other) = await device.list_devices()
    assert await card.get_status_all() == {0: AVAILABLE, 1: AVAILABLE}
    with Runtime("npu:0:0-1"):
        assert await card.get_status_all() == {0: occupied("npu0pe0-1"), 1: occupied("npu0pe0-1")}
        assert await card.get_status_core(0) == occupied("npu0pe0-1")
        assert await other.get_status_core(0) == AVAILABLE
    assert await card.get_status_core(0) == AVAILABLE


async def test_what_is_leased_is_busy_and_looking_takes_nothing() -> None:
    with Runtime("npu:0:1"):
        found = await device.find_device_files(device.DeviceConfig())
        assert repr(found) == "[npu1pe0-1]"
        with pytest.raises(DeviceBusy) as caught:
            sync.find_device_files(sync.DeviceConfig.from_str("warboy(2)*2"))
        assert str(caught.value) == "Device warboy(2)*2 found but still in use"
        with pytest.raises(IoError, match="busy"):
            sync.get_device_file("npu0pe1")
        assert repr(sync.get_device_file("npu0pe0")) == "npu0pe0"
    with Runtime("npu:1:0-1"):
        pass
    for missing in ("npu7pe0", "npu0_mgmt"):
        with pytest.raises(DeviceNotFound, match=f"^Device {missing} not found$"):
            await device.get_device_file(missing)


def test_counters_of_a_file_in_use_grow() -> None:
    card = sync.list_devices()[0]
    assert card.performance_counters() == []
    with create_runner(digits.int8_model(), device="npu:0:0") as runner:
        runner.run(digits.held_out_images()[0])
        ((file, before),) = card.performance_counters()
        for _ in range(20):
            runner.run(digits.held_out_images()[0])
        ((_, after),) = card.performance_counters()
    assert repr(file) == "npu0pe0"
    increased = before.calculate_increased(after)
    assert increased.cycle_count() >= increased.task_execution_cycle() > 0
    assert increased.task_execution_cycle() >= increased.tensor_execution_cycle() > 0
    use = after.calculate_utilization(before)
    assert 0 < use.npu_utilization() <= 1
    assert use.computation_ratio() + use.io_ratio() == pytest.approx(1)


def test_a_device_outlives_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Daemon(1)
    own.start()
    try:
        monkeypatch.setenv("FURIOSA_BROKER", own.environ["FURIOSA_BROKER"])
        (card,) = sync.list_devices()
        own.signal(signal.SIGKILL)
        own.wait()
        with pytest.raises(BrokerError, match=str(own.socket)):
            card.alive()
        assert card.core_num() == 2
        own.start()
        assert card.alive()
    finally:
        own.stop()
