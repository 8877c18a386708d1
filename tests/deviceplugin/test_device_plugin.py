"""The plugin between a real broker and a kubelet."""

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from furiosa.agent import node
from furiosa.client import Connection
from furiosa.common.faults import Dead
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.deviceplugin.settings import (
    DUAL_RESOURCE,
    ORIGINAL_RESOURCE,
    SINGLE_RESOURCE,
    Policy,
    Registration,
)
from support.boxes import Box
from support.clients import Raised
from support.daemon import Daemon
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start
from support.kubelet.pods import AdmissionError, ContainerSpec, Given, Pod

NPU = ORIGINAL_RESOURCE
Run = Callable[..., "asyncio.Task[object]"]


def grant_of(given: Given) -> str:
    (path,) = (host for path, host in given.mounts.items() if path.startswith("/dev/furiosa/"))
    return path


async def until_free(broker: Connection) -> None:
    async with asyncio.timeout(60), broker.watch_devices() as watch:
        async for _ in watch:
            if not await broker.reservations():
                return


@pytest.mark.parametrize(
    ("policy", "count", "wanted", "devices"),
    [
        (Policy.WHOLE, 2, 1, "npu0pe0-1|npu1pe0-1"),
        (Policy.WHOLE, 2, 2, "npu0pe0-1,npu1pe0-1"),
        (Policy.SINGLE, 4, 1, "npu[01]pe[01]"),
        (Policy.SINGLE, 4, 2, "npu0pe0,npu0pe1|npu1pe0,npu1pe1"),
        (Policy.PAIR, 4, 2, "npu[01]pe0-1"),
        (Policy.PAIR, 4, 3, "npu0pe0-1,npu1pe[01]|npu0pe[01],npu1pe0-1"),
    ],
)
async def test_what_a_container_is_given(
    kubelet: FakeKubelet,
    run: Run,
    broker: Connection,
    policy: Policy,
    count: int,
    wanted: int,
    devices: str,
) -> None:
    run(policy)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == count)
    given = (await kubelet.admit(Pod.of("p", {NPU: wanted})))["main"]
    assert re.fullmatch(devices, given.envs["FURIOSA_DEVICES"])
    assert given.envs["NPU_DEVNAME"] == given.envs["FURIOSA_DEVICES"].split(",")[0]
    assert given.envs["FURIOSA_BROKER"] == "unix:/run/furiosa/b.sock"
    (made,) = await broker.reservations()
    assert ",".join(map(str, made.device_files)) == given.envs["FURIOSA_DEVICES"]
    socket_folder = (await broker.grants()).socket_folder
    assert given.mounts == {"/run/furiosa": socket_folder, f"/dev/furiosa/{made.id}": made.grant}
    assert given.device_nodes == {}, "a virtual card has none"
    assert kubelet.allocatable(NPU) == count, "what is allocated stays healthy"


async def test_a_container_leases_what_it_was_given_and_its_cores_are_free_after_it(
    kubelet: FakeKubelet, run: Run, broker: Connection, daemon: Daemon, tmp_path: Path
) -> None:
    run(Policy.SINGLE)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 4)
    given = (await kubelet.admit(Pod.of("p", {NPU: 1})))["main"]
    mine = given.envs["FURIOSA_DEVICES"]
    with await asyncio.to_thread(Box, daemon.environ, [grant_of(given)], tmp_path) as box:
        assert box.ask(f"acquire({mine!r})")
        other = "npu0pe0" if mine != "npu0pe0" else "npu0pe1"
        with pytest.raises(Raised, match="it was given"):
            box.ask(f"acquire({other!r})")
        kubelet.remove("p")
        # the kubelet has forgotten it while it lives: nobody else can be given its core
        await kubelet.until(lambda: kubelet.health(NPU)[mine] == "Unhealthy")
        assert len(await broker.reservations()) == 1
    await kubelet.until(lambda: kubelet.health(NPU)[mine] == "Healthy")
    await until_free(broker)
    assert await broker.acquire(DeviceSpec.parse(mine))


async def test_a_core_that_is_leased_outside_the_cluster_is_not_given_to_a_pod(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    lease = await broker.acquire(DeviceSpec.parse("npu0pe1"))
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
    given = await kubelet.admit(Pod.of("p", {NPU: 1}))
    assert given["main"].envs["FURIOSA_DEVICES"] == "npu1pe0-1"
    with pytest.raises(AdmissionError, match="Insufficient"):
        await kubelet.admit(Pod.of("q", {NPU: 1}))
    await broker.release(lease.id)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)


async def test_a_race_with_a_lease_is_lost_with_a_text_for_people(
    kubelet: FakeKubelet, run: Run, broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    for spec in ("npu0pe1", "npu1pe1"):
        await broker.acquire(DeviceSpec.parse(spec))
    monkeypatch.setattr(
        kubelet.manager, "healthy", lambda _: {"npu0pe0-1", "npu1pe0-1"}
    )  # it has not heard of it yet
    with pytest.raises(
        AdmissionError, match=r"npu\dpe0-1 found but still in use: npu\dpe1 is held"
    ):
        await kubelet.admit(Pod.of("p", {NPU: 1}))
    assert await broker.reservations() == ()


async def test_dynamic_whoever_comes_first_shuts_the_other_kind_out(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run(Policy.DYNAMIC)
    await kubelet.until(
        lambda: (kubelet.allocatable(SINGLE_RESOURCE), kubelet.allocatable(DUAL_RESOURCE)) == (4, 2)
    )
    given = (await kubelet.admit(Pod.of("p", {DUAL_RESOURCE: 1})))["main"]
    card = given.envs["NPU_DEVNAME_FURIOSA_AI_WARBOY_2CORE_16GB"][:4]
    assert "NPU_DEVNAME" not in given.envs
    await kubelet.until(lambda: kubelet.allocatable(SINGLE_RESOURCE) == 2)
    healths = kubelet.health(SINGLE_RESOURCE)
    assert {id for id, health in healths.items() if health == "Unhealthy"} == {
        f"{card}pe0",
        f"{card}pe1",
    }
    assert kubelet.allocatable(DUAL_RESOURCE) == 2, "an allocated unit never flips"
    await kubelet.rerun("p")
    both = Pod.of("q", {SINGLE_RESOURCE: 1, DUAL_RESOURCE: 1})
    with pytest.raises(AdmissionError):
        await kubelet.admit(both)
    # what it had been given before it failed is given back
    await kubelet.until(lambda: kubelet.allocatable(SINGLE_RESOURCE) == 2)
    kubelet.remove("p")
    await kubelet.until(
        lambda: (kubelet.allocatable(SINGLE_RESOURCE), kubelet.allocatable(DUAL_RESOURCE)) == (4, 2)
    )
    await until_free(broker)


async def test_one_container_with_both_kinds_has_a_variable_for_each(
    kubelet: FakeKubelet, run: Run
) -> None:
    run(Policy.DYNAMIC)
    await kubelet.until(lambda: kubelet.allocatable(SINGLE_RESOURCE) == 4)
    given = (await kubelet.admit(Pod.of("p", {SINGLE_RESOURCE: 1, DUAL_RESOURCE: 1})))["main"]
    assert given.lost == []
    devices = {v for k, v in given.envs.items() if k.startswith("FURIOSA_DEVICES_")}
    assert len(devices) == 2
    assert any(re.fullmatch(r"npu\dpe0-1", device) for device in devices)


async def test_init_and_app_containers_share_their_devices(
    kubelet: FakeKubelet, run: Run, broker: Connection, daemon: Daemon, tmp_path: Path
) -> None:
    run(Policy.SINGLE)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 4)
    containers = (ContainerSpec("app", {NPU: 1}), ContainerSpec("init", {NPU: 2}, init=True))
    given = await kubelet.admit(Pod("p", containers))
    for name in ("init", "app"):
        folder = tmp_path / name
        folder.mkdir()
        grants = [grant_of(given[name])]
        with await asyncio.to_thread(Box, daemon.environ, grants, folder) as box:
            assert box.ask(f"acquire({given[name].envs['FURIOSA_DEVICES']!r})")


async def test_a_pod_with_devices_in_an_init_container_alone_keeps_them_until_it_has_come(
    kubelet: FakeKubelet, run: Run, broker: Connection, daemon: Daemon, tmp_path: Path
) -> None:
    """The kubelet lists no init containers."""
    run(Policy.SINGLE)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 4)
    containers = (ContainerSpec("app", {}), ContainerSpec("init", {NPU: 1}, init=True))
    given = (await kubelet.admit(Pod("p", containers)))["init"]
    lists = kubelet.lists
    await kubelet.until(lambda: kubelet.lists > lists + 5)
    assert len(await broker.reservations()) == 1
    with await asyncio.to_thread(Box, daemon.environ, [grant_of(given)], tmp_path) as box:
        assert box.ask(f"acquire({given.envs['FURIOSA_DEVICES']!r})")
    await until_free(broker)


async def test_a_dead_card_is_unhealthy_and_comes_back(
    kubelet: FakeKubelet, daemon: Daemon, start: Start, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    given = await kubelet.admit(Pod.of("p", {NPU: 1}))
    await broker.emulate(DeviceFile.parse("npu0"), Dead())
    await kubelet.until(lambda: kubelet.health(NPU)["npu0pe0-1"] == "Unhealthy")
    if given["main"].envs["FURIOSA_DEVICES"] == "npu0pe0-1":
        with pytest.raises(AdmissionError, match="unhealthy"):
            await kubelet.rerun("p")
    await broker.clear_faults()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)


async def test_a_cordoned_card_is_given_to_nobody_else(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    given = (await kubelet.admit(Pod.of("p", {NPU: 1})))["main"]
    for card in (0, 1):
        await broker.cordon(card)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
    assert kubelet.health(NPU)[given.envs["FURIOSA_DEVICES"]] == "Healthy"
    await kubelet.rerun("p")


async def test_restarts_in_any_order_lose_and_double_nothing(
    kubelet: FakeKubelet, run: Run, broker: Connection, daemon: Daemon, tmp_path: Path
) -> None:
    plugin = run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    given = (await kubelet.admit(Pod.of("p", {NPU: 1})))["main"]
    mine = given.envs["FURIOSA_DEVICES"]
    (made,) = await broker.reservations()
    with await asyncio.to_thread(Box, daemon.environ, [grant_of(given)], tmp_path) as box:
        assert box.ask(f"acquire({mine!r})")
        await kubelet.restart()
        await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
        daemon.signal(signal.SIGKILL)
        await asyncio.to_thread(daemon.wait)
        await asyncio.to_thread(daemon.start)
        plugin.cancel()
        await asyncio.wait([plugin])
        await kubelet.until(lambda: kubelet.allocatable(NPU) == 0)
        run()
        await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
        async with await Connection.open(client="test") as again:
            (still,) = await again.reservations()
            assert (still.id, still.pids) == (made.id, (box.pid,))
        other = (await kubelet.admit(Pod.of("q", {NPU: 1})))["main"]
        assert other.envs["FURIOSA_DEVICES"] != mine
        await kubelet.begin("p")


async def test_a_container_whose_reservation_is_lost_is_not_started(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run(interval=3600.0)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    await kubelet.admit(Pod.of("p", {NPU: 1}))
    await kubelet.begin("p")
    (made,) = await broker.reservations()
    await broker.cancel_reservation(made.id)
    with pytest.raises(AdmissionError, match="no longer reserved for this pod"):
        await kubelet.begin("p")


async def test_without_a_broker_nothing_new_is_given_and_what_is_given_stays(
    kubelet: FakeKubelet, run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "AWAY_SECONDS", 0.2)
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    given = (await kubelet.admit(Pod.of("p", {NPU: 1})))["main"]
    daemon.signal(signal.SIGKILL)
    await asyncio.to_thread(daemon.wait)
    with pytest.raises(AdmissionError, match="no broker"):
        await kubelet.admit(Pod.of("q", {NPU: 1}))
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
    assert kubelet.health(NPU)[given.envs["FURIOSA_DEVICES"]] == "Healthy"
    await asyncio.to_thread(daemon.start)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)


async def test_a_broker_that_comes_later_and_no_cards_are_not_fatal(
    kubelet: FakeKubelet, run: Run, daemon: Daemon
) -> None:
    daemon.signal(signal.SIGTERM)
    await asyncio.to_thread(daemon.wait)
    run()
    await kubelet.until(lambda: NPU in kubelet.manager.endpoints)
    assert kubelet.capacity(NPU) == 0
    await asyncio.to_thread(daemon.start)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)


async def test_it_can_be_found_instead_of_registering(kubelet: FakeKubelet, run: Run) -> None:
    run(registration=Registration.FOUND)
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    await kubelet.restart()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    await kubelet.admit(Pod.of("p", {NPU: 2}))


async def test_an_allocation_that_the_kubelet_never_heard_of_is_given_back(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 2)
    await broker.reserve([DeviceFile.parse("npu0pe0-1")], manager=NPU, label="npu0pe0-1")
    await until_free(broker)


async def test_reservations_of_others_are_left_alone(
    kubelet: FakeKubelet, run: Run, broker: Connection
) -> None:
    made = await broker.reserve([DeviceFile.parse("npu0pe0")], manager="npu.furiosa.ai", name="c")
    run()
    await kubelet.until(lambda: kubelet.allocatable(NPU) == 1)
    lists = kubelet.lists
    await kubelet.until(lambda: kubelet.lists > lists + 3)
    assert [r.id for r in await broker.reservations()] == [made.id]
