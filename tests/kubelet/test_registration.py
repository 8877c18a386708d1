"""Whatever the kubelet does, a plugin is known to it again."""

import asyncio
from pathlib import Path

import pytest

from furiosa.kubelet import (
    DEVICE_PLUGIN,
    DRA_PLUGIN,
    PodResources,
    keep_found,
    keep_registered,
)
from furiosa.kubelet.pod_resources import PodResourcesUnavailable
from furiosa.proto.kubelet.podresources.v1 import podresources_pb2 as pb
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start
from support.kubelet.pods import Pod
from support.kubelet.tiny_plugin import TinyPlugin

THING = "example.com/thing"


def known(kubelet: FakeKubelet) -> bool:
    return kubelet.allocatable(THING) == 2


async def test_a_plugin_waits_for_a_kubelet_that_is_not_there_yet(
    short_path: Path, start: Start
) -> None:
    kubelet, states = FakeKubelet(short_path), list[bool]()
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, states.append))
    async with kubelet:
        await kubelet.until(lambda: known(kubelet))
        assert states == [True]


async def test_a_socket_without_a_kubelet_behind_it_is_tried_again(
    short_path: Path, start: Start
) -> None:
    kubelet = FakeKubelet(short_path)
    kubelet.socket.touch()
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    async with kubelet:
        await kubelet.until(lambda: known(kubelet))


async def test_after_restarts_of_the_kubelet_it_is_registered_with_a_new_socket(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny, states = TinyPlugin(), list[bool]()
    start(keep_registered(tiny.plugin(), kubelet.device_plugins, states.append))
    names = set()
    for count in (1, 2, 3):
        await kubelet.until(lambda: known(kubelet))
        names.add(kubelet.manager.endpoints[THING].path.name)
        assert len(names) == count
        await kubelet.restart()
    await kubelet.until(lambda: known(kubelet))
    assert states[:4] == [True, False, True, False]
    await kubelet.admit(Pod.of("p", {THING: 2}))


@pytest.mark.parametrize("keyed_by_path", [False, True])
async def test_an_older_instance_that_ends_later_does_not_end_the_new_one(
    short_path: Path, start: Start, keyed_by_path: bool
) -> None:
    async with FakeKubelet(short_path, keyed_by_path=keyed_by_path) as kubelet:
        old = start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
        await kubelet.until(lambda: known(kubelet))
        new = TinyPlugin(THING, "a", "b", "c")
        first = kubelet.manager.endpoints[THING]
        start(keep_registered(new.plugin(), kubelet.device_plugins, lambda _: None))
        await kubelet.until(lambda: kubelet.allocatable(THING) == 3)
        before = kubelet.manager.registrations
        old.cancel()
        if not keyed_by_path:  # the kubelet closes the stream of the new one
            await kubelet.until(lambda: kubelet.manager.registrations > before)
        await kubelet.until(lambda: kubelet.allocatable(THING) == 3)
        assert kubelet.manager.endpoints[THING] is not first


async def test_a_socket_that_somebody_removes_is_made_anew(
    kubelet: FakeKubelet, start: Start
) -> None:
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    await kubelet.until(lambda: known(kubelet))
    path = kubelet.manager.endpoints[THING].path
    path.unlink()
    await kubelet.until(lambda: known(kubelet) and kubelet.manager.endpoints[THING].path != path)


async def test_its_socket_goes_when_it_ends(kubelet: FakeKubelet, start: Start) -> None:
    task = start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    await kubelet.until(lambda: known(kubelet))
    task.cancel()
    await asyncio.wait([task])
    assert list(kubelet.device_plugins.glob("tiny-*")) == []


async def test_9_a_plugin_is_found_and_found_again_by_a_kubelet_that_starts_anew(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny, states = TinyPlugin(), list[bool]()
    start(
        keep_found(
            tiny.plugin(), DEVICE_PLUGIN, ["v1beta1"], kubelet.plugins_registry, states.append
        )
    )
    await kubelet.until(lambda: known(kubelet))
    path = kubelet.manager.endpoints[THING].path
    await kubelet.restart()
    await kubelet.until(lambda: known(kubelet))
    assert kubelet.manager.endpoints[THING].path == path, "it keeps its socket"
    assert states == [True, True]
    path.unlink()
    await kubelet.until(lambda: known(kubelet) and kubelet.manager.endpoints[THING].path != path)


async def test_a_driver_is_found_with_its_endpoint(kubelet: FakeKubelet, start: Start) -> None:
    tiny = TinyPlugin("npu.example.com")
    endpoint = kubelet.plugins / "dra.sock"
    registry = kubelet.plugins_registry
    versions = ["v1.DRAPlugin", "v1beta1.DRAPlugin"]
    plugin = tiny.plugin()
    without = type(plugin)(plugin.name, plugin.add, plugin.stem)
    start(keep_found(without, DRA_PLUGIN, versions, registry, lambda _: None, endpoint))
    await kubelet.until(lambda: "npu.example.com" in kubelet.watcher.drivers)
    assert kubelet.watcher.drivers["npu.example.com"] == endpoint
    (info,) = kubelet.watcher.found.values()
    assert list(info.supported_versions) == versions
    assert endpoint.is_socket()


async def test_a_refusal_of_the_kubelet_is_logged_and_told(
    kubelet: FakeKubelet, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    kubelet.watcher.refuse = "no such type"
    states = list[bool]()
    registry = kubelet.plugins_registry
    start(keep_found(TinyPlugin().plugin(), "Nonsense", ["v1beta1"], registry, states.append))
    await kubelet.until(lambda: states == [False])
    assert "the kubelet does not take example.com/thing: no such type" in caplog.text


async def test_who_has_what_is_listed(kubelet: FakeKubelet, start: Start) -> None:
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    await kubelet.until(lambda: known(kubelet))
    given = await kubelet.admit(Pod.of("p", {THING: 1}))
    resource = pb.ClaimResource(driver_name="d", pool_name="node", device_name="npu0pe0")
    kubelet.claims["p", "main"] = [pb.DynamicResource(claim_name="c", claim_resources=[resource])]
    async with PodResources(kubelet.pod_resources) as pods:
        found = await pods.list()
    (held,) = found.held
    assert (held.namespace, held.pod, held.container, held.resource) == (
        "default",
        "p",
        "main",
        THING,
    )
    assert held.ids == given["main"].ids[THING]
    (claimed,) = found.claimed
    assert (claimed.pod, claimed.driver, claimed.device) == ("p", "d", "npu0pe0")


async def test_without_a_kubelet_there_is_an_error_that_says_where(short_path: Path) -> None:
    path = short_path / "kubelet.sock"
    async with PodResources(path) as pods:
        with pytest.raises(PodResourcesUnavailable, match=str(path)):
            await pods.list()
