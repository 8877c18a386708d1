"""From device trees, brokers and a kubelet to pages, asked for over HTTP and read by real parsers."""

import asyncio
import signal
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.client import Connection
from furiosa.client.address import Address
from furiosa.common.faults import Dead
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import CardPart
from furiosa.exporter.families import Naming
from furiosa.exporter.sampler import STALE_GRACE_SECONDS, Sampler, What
from furiosa.exporter.sources import BrokerSource, Sources, TreeSource
from furiosa.kubelet import PodResources
from furiosa.proto.kubelet.podresources.v1 import podresources_pb2 as pods_pb
from support import goldens
from support.daemon import Daemon
from support.kubelet.fake import FakeKubelet
from support.kubelet.pods import Given, Pod
from support.scrapes import OPENMETRICS, get, key, samples, scraped, served

GOLDEN = Path(__file__).parent / "golden"
NPU = "beta.furiosa.ai/npu"


def what(naming: Naming = Naming.WARBOY, *, with_use: bool = True) -> What:
    return What("node-1", 10.0, naming, with_use)


def of_tree(root: Path) -> Sources:
    return Sources(None, TreeSource(root))


def of_broker(daemon: Daemon, root: Path | None = None) -> Sources:
    address = Address.parse(daemon.environ["FURIOSA_BROKER"])
    return Sources(BrokerSource(address), None if root is None else TreeSource(root))


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon(2)
    made.start()
    yield made
    made.stop()


def give(kubelet: FakeKubelet, pod: str, *ids: str, resource: str = NPU) -> None:
    """As if the pod had been admitted with these devices."""
    kubelet.manager.pods[pod] = Pod(pod, Pod.of(pod, {}).containers, namespace="team")
    kubelet.manager.given[(pod, "main")] = Given(ids={resource: ids})


@pytest.mark.parametrize("naming", list(Naming))
async def test_two_cards_without_a_broker_one_of_them_held_by_a_pod(
    root: Path, kubelet: FakeKubelet, naming: Naming
) -> None:
    give(kubelet, "whole", "npu0pe0-1")
    give(kubelet, "part", "npu10pe1")
    async with PodResources(kubelet.pod_resources) as pods:
        sampler = Sampler(what(naming), of_tree(root), pods)
        await sampler.once()
    async with served(sampler.pages()) as url:
        page = await asyncio.to_thread(get, f"{url}/metrics")
        assert await scraped(url, OPENMETRICS) == samples(page)
    goldens.same(GOLDEN / f"{naming.value}.txt", page)


async def test_a_claim_is_a_pods_as_well(root: Path, kubelet: FakeKubelet) -> None:
    give(kubelet, "claiming")
    claim = pods_pb.ClaimResource(
        driver_name="npu.furiosa.ai", pool_name="node-1", device_name="npu0pe1"
    )
    kubelet.claims[("claiming", "main")] = [pods_pb.DynamicResource(claim_resources=[claim])]
    async with PodResources(kubelet.pod_resources) as pods:
        sampler = Sampler(what(), of_tree(root), pods)
        await sampler.once()
    async with served(sampler.pages()) as url:
        found = await scraped(url)
    pod = {"namespace": "team", "pod": "claiming", "container": "main"}
    card = {"node": "node-1", "device": "npu0"}
    assert found[key("furiosa_npu_alive", **card)] == 1
    assert found[key("furiosa_npu_alive", **card, core="1", **pod)] == 1
    assert key("furiosa_npu_core_frequency", **card, core="1", **pod) in found
    assert key("furiosa_npu_core_frequency", **card, core="1") not in found


async def test_without_the_kubelet_there_are_metrics_without_pods(
    root: Path, tmp_path: Path
) -> None:
    async with PodResources(tmp_path / "nobody.sock") as pods:
        sampler = Sampler(what(), of_tree(root), pods)
        await sampler.once()
    async with served(sampler.pages()) as url:
        found = await scraped(url)
    assert found[key("furiosa_npu_alive", device="npu0", node="node-1")] == 1


async def test_utilization_is_left_out_when_nobody_wants_it(root: Path) -> None:
    sampler = Sampler(what(with_use=False), of_tree(root), None)
    await sampler.once()
    await sampler.once()
    async with served(sampler.pages()) as url:
        names = {name for name, _ in await scraped(url)}
    assert "furiosa_npu_core_frequency" in names
    assert not {name for name in names if "cycle" in name or "utilization" in name}


async def test_labels_that_are_hostile_arrive_as_they_are(root: Path) -> None:
    hwmon = root / "sys/bus/pci/devices/0000:5e:00.0/hwmon/hwmon2"
    label = 'a"b\\\n# TYPE furiosa_npu_alive counter\nfuriosa_npu_total_cycle_count{} 1'
    (hwmon / "temp1_label").write_text(label)
    (hwmon / "temp2_label").write_text(label)  # twice: the first counts
    sampler = Sampler(What('n"\\o', 10.0, Naming.WARBOY, True), of_tree(root), None)
    await sampler.once()
    async with served(sampler.pages()) as url:
        for accept in ("", OPENMETRICS):
            found = await scraped(url, accept)
            shown = {dict(labels).get("label") for name, labels in found if "temperature" in name}
            assert label in shown
            assert {dict(labels)["node"] for _, labels in found} == {'n"\\o'}


async def test_a_broken_sensor_hides_only_its_kind(root: Path) -> None:
    hwmon = root / "sys/bus/pci/devices/0000:5e:00.0/hwmon/hwmon2"
    (hwmon / "power1_average").write_text("much")
    broken = next(
        f"npu{index}"
        for index in (0, 10)
        if "5e" in (root / f"sys/class/npu_mgmt/npu{index}_mgmt/busname").read_text()
    )
    (root / f"sys/class/npu_mgmt/{broken}_mgmt/heartbeat").write_text("soon")
    sampler = Sampler(what(), of_tree(root), None)
    await sampler.once()
    async with served(sampler.pages()) as url:
        found = await scraped(url)
    own = {name for name, labels in found if ("device", broken) in labels}
    assert not own & {"furiosa_npu_hw_power", "furiosa_npu_uptime"}
    assert {"furiosa_npu_alive", "furiosa_npu_hw_temperature", "furiosa_npu_error"} <= own


async def test_a_dead_card_is_told_as_dead(daemon: Daemon) -> None:
    sources = of_broker(daemon)
    sampler = Sampler(what(), sources, None)
    async with await Connection.open(
        Address.parse(daemon.environ["FURIOSA_BROKER"]), client="test"
    ) as broker:
        await broker.emulate(DeviceFile.parse("npu1"), Dead())
        async with broker.watch_devices() as watch:
            async for snapshot in watch:
                if snapshot.items[1].health.value == "dead":
                    break
    await sampler.once()
    async with served(sampler.pages()) as url:
        found = await scraped(url)
    await sources.close()
    alive = {
        dict(labels)["device"]: value
        for (name, labels), value in found.items()
        if name == "furiosa_npu_alive"
    }
    assert alive == {"npu0": 1, "npu1": 0}


async def test_counters_go_on_where_they_were_when_the_broker_comes_back(daemon: Daemon) -> None:
    sources = of_broker(daemon)
    sampler = Sampler(what(), sources, None)
    cycles = key("furiosa_npu_total_cycle_count", device="npu0", core="0", node="node-1")
    up = key("furiosa_npu_exporter_broker_up", node="node-1")
    seen: list[float] = []

    async def used() -> None:
        address = Address.parse(daemon.environ["FURIOSA_BROKER"])
        async with await Connection.open(address, client="test") as broker:
            await broker.acquire(DeviceSpec.parse("npu:0:0-1"))
            more = seen[-1] if seen else 0.0
            while not seen or seen[-1] <= more:
                await sampler.once()
                seen.append((await scraped(url))[cycles])

    async with served(sampler.pages()) as url:
        await used()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        await sampler.once()
        assert await scraped(url) == {up: 0.0}
        daemon.start()
        await used()
        assert (await scraped(url))[up] == 1.0
    await sources.close()
    assert seen == sorted(seen)


async def test_cards_of_the_machine_are_still_told_of_when_the_broker_is_away(
    daemon: Daemon, root: Path
) -> None:
    sources = of_broker(daemon, root)
    sampler = Sampler(what(), sources, None)

    async def devices() -> set[str]:
        await sampler.once()
        found = await scraped(url)
        return {dict(labels)["device"] for name, labels in found if name == "furiosa_npu_alive"}

    async with served(sampler.pages()) as url:
        assert await devices() == {"npu0", "npu1"}
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        assert await devices() == {"npu0", "npu10"}
        daemon.start()
        assert await devices() == {"npu0", "npu1"}
    await sources.close()


async def test_a_sample_that_is_old_is_not_told(root: Path) -> None:
    now = 100.0
    sampler = Sampler(what(), of_tree(root), None, lambda: now)
    async with served(sampler.pages()) as url:
        for path in ("/metrics", "/healthz"):
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(get, url + path)
        await sampler.once()
        now += 2 * 10.0 + STALE_GRACE_SECONDS
        assert await asyncio.to_thread(get, f"{url}/healthz") == "ok\n"
        assert await scraped(url)
        now += 0.1
        for path in ("/metrics", "/healthz"):
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(get, url + path)


async def test_a_scrape_looks_at_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = of_tree(root)
    sampler = Sampler(what(), sources, None)
    await sampler.once()

    async def look(parts: tuple[CardPart, ...]) -> None:
        raise AssertionError("looked")

    monkeypatch.setattr(sources, "look", look)
    async with served(sampler.pages()) as url:
        assert await scraped(url) == await scraped(url, OPENMETRICS)
