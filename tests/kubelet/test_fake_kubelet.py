"""The fake kubelet does what was measured on a real one."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from furiosa.kubelet import keep_registered
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start
from support.kubelet.pods import AdmissionError, ContainerSpec, Pod
from support.kubelet.tiny_plugin import TinyPlugin

THING = "example.com/thing"


async def registered(
    kubelet: FakeKubelet, start: Start, tiny: TinyPlugin, **options: bool
) -> "asyncio.Task[object]":
    task = start(keep_registered(tiny.plugin(**options), kubelet.device_plugins, lambda _: None))
    await kubelet.until(lambda: kubelet.allocatable(tiny.resource) == len(tiny.health))
    return task


async def register(kubelet: FakeKubelet, **changes: str) -> None:
    asked = {"version": "v1beta1", "endpoint": "nobody.sock", "resource_name": THING} | changes
    async with grpc.aio.insecure_channel(f"unix:{kubelet.socket}") as channel:
        await rpc.RegistrationStub(channel).Register(pb.RegisterRequest(**asked), timeout=30)  # type: ignore[arg-type]  # all are text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "failed to dial device plugin"),
        ({"version": "v1alpha"}, "unsupported version 'v1alpha'"),
        ({"resource_name": "thing"}, "invalid resource name 'thing'"),
    ],
)
async def test_1_who_does_not_answer_or_asks_for_nonsense_is_refused(
    short_path: Path, changes: dict[str, str], text: str
) -> None:
    async with FakeKubelet(short_path, ask_back_seconds=0.2) as kubelet:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(kubelet, **changes)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert text in str(caught.value.details())


async def test_2_a_container_is_allocated_devices_once_a_resource(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny = TinyPlugin(THING, "a", "b", "c")
    await registered(kubelet, start, tiny)
    given = await kubelet.admit(Pod.of("p", {THING: 2}))
    assert [sorted(ids) for ids in tiny.allocated] == [sorted(given["main"].ids[THING])]
    assert len(set(given["main"].ids[THING])) == 2
    with pytest.raises(AdmissionError, match="2 wanted, 1 available"):
        await kubelet.admit(Pod.of("q", {THING: 2}))


@pytest.mark.parametrize("prefers", [False, True])
async def test_3_errors_of_a_plugin_reject_the_pod_with_its_text(
    kubelet: FakeKubelet, start: Start, prefers: bool
) -> None:
    tiny = TinyPlugin()
    await registered(kubelet, start, tiny, prefers=prefers)
    tiny.refusal = "card npu0 is in use"
    kind = "GetPreferredAllocation" if prefers else "UnexpectedAdmissionError"
    with pytest.raises(AdmissionError, match=f"{kind}.*card npu0 is in use"):
        await kubelet.admit(Pod.of("p", {THING: 1}))
    assert kubelet.manager.in_use(THING) == set()


async def test_4_a_start_wipes_the_folder_and_forgets_all_but_the_checkpoint(
    kubelet: FakeKubelet, start: Start
) -> None:
    task = await registered(kubelet, start, TinyPlugin())
    await kubelet.admit(Pod.of("p", {THING: 1}))
    (kubelet.device_plugins / "sub").mkdir()
    task.cancel()
    await asyncio.wait([task])
    (kubelet.device_plugins / "stray.sock").touch()
    await kubelet.restart()
    left = {path.name for path in kubelet.device_plugins.iterdir()}
    assert left == {"kubelet.sock", "kubelet_internal_checkpoint", "sub"}
    assert kubelet.capacity(THING) == 0
    checkpoint = json.loads((kubelet.device_plugins / "kubelet_internal_checkpoint").read_text())
    (entry,) = checkpoint["Data"]["PodDeviceEntries"]
    assert (entry["PodUID"], entry["ResourceName"]) == ("p", THING)


async def test_5_without_its_plugin_a_resource_keeps_its_capacity_only(
    kubelet: FakeKubelet, start: Start
) -> None:
    task = await registered(kubelet, start, TinyPlugin())
    task.cancel()
    await kubelet.until(lambda: kubelet.allocatable(THING) == 0)
    assert kubelet.capacity(THING) == 2


async def test_6_a_pod_with_an_unhealthy_device_is_not_run_again(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny = TinyPlugin()
    await registered(kubelet, start, tiny)
    given = await kubelet.admit(Pod.of("p", {THING: 1}))
    await kubelet.rerun("p")
    (mine,) = given["main"].ids[THING]
    await tiny.set(**{mine: "Unhealthy"})
    await kubelet.until(lambda: kubelet.allocatable(THING) == 1)
    with pytest.raises(AdmissionError, match="unhealthy"):
        await kubelet.rerun("p")


async def test_7_of_two_values_of_one_key_one_is_dropped(
    kubelet: FakeKubelet, start: Start
) -> None:
    one, other = TinyPlugin(THING), TinyPlugin("example.com/other")
    one.envs, other.envs = {"SAME": "1", "ONE": "1"}, {"SAME": "2", "OTHER": "2"}
    await registered(kubelet, start, one)
    await registered(kubelet, start, other)
    given = (await kubelet.admit(Pod.of("p", {THING: 1, other.resource: 1})))["main"]
    assert given.lost == ["SAME"]
    assert set(given.envs) == {"SAME", "ONE", "OTHER"}


async def test_devices_of_an_init_container_are_used_again_by_its_pod(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny = TinyPlugin(THING, "a")
    await registered(kubelet, start, tiny)
    both = (ContainerSpec("app", {THING: 1}), ContainerSpec("init", {THING: 1}, init=True))
    given = await kubelet.admit(Pod("p", both))
    assert given["init"].ids == given["app"].ids == {THING: ("a",)}


async def test_a_plugin_is_asked_before_each_start_if_it_wants(
    kubelet: FakeKubelet, start: Start
) -> None:
    tiny = TinyPlugin()
    await registered(kubelet, start, tiny, pre_start=True)
    await kubelet.admit(Pod.of("p", {THING: 1}))
    await kubelet.begin("p")
    tiny.refusal = "not now"
    with pytest.raises(AdmissionError, match="not now"):
        await kubelet.begin("p")
