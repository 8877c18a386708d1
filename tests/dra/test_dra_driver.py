"""The driver between a real broker, a kubelet and an API server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.client import Connection
from furiosa.common.faults import Dead
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.dra import publisher
from furiosa.dra.api_server import ApiServer
from furiosa.dra.main import Settings, main, serve
from furiosa.dra.service import SUPPORTED
from furiosa.dra.slices import DRIVER, Devices
from furiosa.proto.kubelet.dra.v1 import dra_pb2 as pb
from support.apiserver import FakeApiServer
from support.boxes import Box
from support.clients import Raised
from support.daemon import Daemon
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start

Run = Callable[..., "asyncio.Task[object]"]
LONG = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(2, "--health-recovery", "0.2")
    made.start()
    monkeypatch.setenv("FURIOSA_BROKER", made.environ["FURIOSA_BROKER"])
    yield made
    made.stop()


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
def run(
    daemon: Daemon,
    kubelet: FakeKubelet,
    api: FakeApiServer,
    start: Start,
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    monkeypatch.setattr(publisher, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "RETRY_SECONDS", (0.01,))
    token = short_path / "token"
    token.write_text(api.token)

    def run(devices: Devices = Devices.PARTITIONS) -> "asyncio.Task[object]":
        settings = Settings(
            "node-1", devices, kubelet.plugins, kubelet.plugins_registry, short_path / "cdi"
        )
        return start(serve(settings, ApiServer("http://c", token, transport=api.transport())))

    return run


@pytest.fixture
async def broker(daemon: Daemon) -> AsyncIterator[Connection]:
    async with await Connection.open(client="test") as connection:
        yield connection


async def registered(kubelet: FakeKubelet) -> Path:
    await kubelet.until(lambda: DRIVER in kubelet.watcher.drivers)
    return kubelet.watcher.drivers[DRIVER]


def claim(uid: str, name: str = "c") -> pb.Claim:
    return pb.Claim(namespace="default", uid=uid, name=name)


async def call(kubelet: FakeKubelet, method: str, request: Any, response: Any, name: str) -> Any:
    async with grpc.aio.insecure_channel(f"unix:{await registered(kubelet)}") as channel:
        stub: Any = channel.unary_unary(
            f"/{name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return await stub(request, timeout=60)


async def prepare(
    kubelet: FakeKubelet, *claims: pb.Claim, name: str = SUPPORTED[0]
) -> pb.NodePrepareResourcesResponse:
    request = pb.NodePrepareResourcesRequest(claims=claims)
    found: pb.NodePrepareResourcesResponse = await call(
        kubelet, "NodePrepareResources", request, pb.NodePrepareResourcesResponse, name
    )
    return found


async def unprepare(kubelet: FakeKubelet, *claims: pb.Claim) -> dict[str, str]:
    request = pb.NodeUnprepareResourcesRequest(claims=claims)
    response = pb.NodeUnprepareResourcesResponse
    found = await call(kubelet, "NodeUnprepareResources", request, response, SUPPORTED[1])
    return {uid: each.error for uid, each in found.claims.items()}


def specs(short_path: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted((short_path / "cdi").glob("*.json"))]


async def test_devices_are_published_and_follow_the_node(
    kubelet: FakeKubelet, run: Run, api: FakeApiServer, broker: Connection
) -> None:
    run()
    every = [f"npu{n}pe{part}" for n in (0, 1) for part in ("0", "0-1", "1")]
    await kubelet.until(lambda: api.devices() == every)
    (owner,) = api.slices["node-1-npu.furiosa.ai-0"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Node", "uid of node-1")
    lease = await broker.acquire(DeviceSpec.parse("npu0pe1"))
    await kubelet.until(lambda: api.devices() == ["npu0pe0", *every[3:]])
    generations = {spec["pool"]["generation"] for spec in api.specs()}
    assert len(generations) == 1
    await broker.release(lease.id)
    await kubelet.until(lambda: api.devices() == every)
    assert min(spec["pool"]["generation"] for spec in api.specs()) > max(generations)
    await broker.emulate(DeviceFile.parse("npu1"), Dead())
    await kubelet.until(lambda: api.devices() == every[:3])
    assert {spec["pool"]["resourceSliceCount"] for spec in api.specs()} == {len(api.slices)}


async def test_what_others_do_to_slices_is_undone(
    kubelet: FakeKubelet, run: Run, api: FakeApiServer
) -> None:
    run(Devices.WHOLE)
    whole = ["npu0pe0-1", "npu1pe0-1"]
    await kubelet.until(lambda: api.devices() == whole)
    api.slices.clear()
    await kubelet.until(lambda: api.devices() == whole)
    (spec,) = api.specs()
    spec["devices"].pop()
    api.failures = [500, 409, 401]
    await kubelet.until(lambda: api.devices() == whole)


@pytest.mark.parametrize("name", [*SUPPORTED[:2], LONG])
async def test_a_claim_is_prepared_under_every_name_of_the_service(
    kubelet: FakeKubelet,
    run: Run,
    api: FakeApiServer,
    broker: Connection,
    short_path: Path,
    name: str,
) -> None:
    run()
    api.allocate("u1", "npu0pe0", "npu1pe0-1")
    response = await prepare(kubelet, claim("u1"), name=name)
    devices = response.claims["u1"].devices
    assert [(d.request_names[0], d.pool_name, d.device_name) for d in devices] == [
        ("r0", "node-1", "npu0pe0"),
        ("r1", "node-1", "npu1pe0-1"),
    ]
    assert [list(device.cdi_device_ids) for device in devices] == [
        ["npu.furiosa.ai/claim=u1-npu0pe0"],
        ["npu.furiosa.ai/claim=u1-npu1pe0-1"],
    ]
    (spec,) = specs(short_path)
    (made,) = await broker.reservations()
    assert [device["name"] for device in spec["devices"]] == ["u1-npu0pe0", "u1-npu1pe0-1"]
    assert made.grant in [m["hostPath"] for m in spec["containerEdits"]["mounts"]]
    assert (made.name, made.label) == ("u1", "default/c")
    again = await prepare(kubelet, claim("u1"))
    assert again == response
    assert await unprepare(kubelet, claim("u1")) == {"u1": ""}
    assert await unprepare(kubelet, claim("u1")) == {"u1": ""}
    assert (await broker.reservations(), specs(short_path)) == ((), [])


async def test_one_bad_claim_does_not_fail_the_others(
    kubelet: FakeKubelet, run: Run, api: FakeApiServer, broker: Connection
) -> None:
    run()
    api.allocate("good", "npu0pe0", name="good")
    api.allocate("held", "npu1pe0", name="held")
    api.allocate("odd", "gpu0", name="odd")
    api.allocate("far", "npu0pe1", pool="node-2", name="far")
    api.allocate("waits", name="waits")
    await broker.acquire(DeviceSpec.parse("npu1pe0"))
    names = ("good", "held", "odd", "far", "waits", "gone")
    response = await prepare(
        kubelet, claim("other", "good"), *(claim(name, name) for name in names)
    )
    errors = {uid: each.error for uid, each in response.claims.items()}
    assert errors.pop("good") == ""
    expected = {
        "other": "is another one by now",
        "held": "Device npu1pe0 found but still in use: npu1pe0 is held by pid",
        "odd": "'gpu0' is not a device file name",
        "far": "is of node node-2, not of this one",
        "waits": "has no device of npu.furiosa.ai",
        "gone": "404: claim gone not found",
    }
    assert set(errors) == set(expected)
    for uid, text in expected.items():
        assert text in errors[uid]
    assert [each.name for each in await broker.reservations()] == ["good"]


async def test_a_claim_that_is_in_use_is_not_unprepared(
    kubelet: FakeKubelet,
    run: Run,
    api: FakeApiServer,
    daemon: Daemon,
    broker: Connection,
    tmp_path: Path,
) -> None:
    run()
    api.allocate("u1", "npu0pe0")
    await prepare(kubelet, claim("u1"))
    (made,) = await broker.reservations()
    with await asyncio.to_thread(Box, daemon.environ, [made.grant], tmp_path) as box:
        assert box.ask("acquire('npu0pe0')")
        with pytest.raises(Raised, match="it was given npu0pe0"):
            box.ask("acquire('npu0pe1')")
        assert f"pid {box.pid}" in (await unprepare(kubelet, claim("u1")))["u1"]
        assert (await prepare(kubelet, claim("u1"))).claims["u1"].error == ""
    assert await unprepare(kubelet, claim("u1")) == {"u1": ""}


async def test_two_claims_never_have_one_core(
    kubelet: FakeKubelet, run: Run, api: FakeApiServer
) -> None:
    run()
    api.allocate("u1", "npu0pe0-1", name="one")
    api.allocate("u2", "npu0pe1", name="two")
    response = await prepare(kubelet, claim("u1", "one"), claim("u2", "two"))
    assert response.claims["u1"].error == ""
    assert "npu0pe0-1 is reserved by npu.furiosa.ai for default/one" in response.claims["u2"].error


async def test_restarts_in_any_order_lose_no_claim(
    kubelet: FakeKubelet,
    run: Run,
    api: FakeApiServer,
    daemon: Daemon,
    short_path: Path,
) -> None:
    driver = run()
    api.allocate("u1", "npu0pe0")
    await prepare(kubelet, claim("u1"))
    before = specs(short_path)
    await kubelet.restart()
    await registered(kubelet)
    driver.cancel()
    await asyncio.wait([driver])
    for path in (short_path / "cdi").iterdir():
        path.unlink()
    (short_path / "cdi" / "furiosa.ai-npu-claim-gone.json").write_text("{}")
    (short_path / "cdi" / "furiosa.ai-npu.json").write_text("{}")
    daemon.signal(signal.SIGKILL)
    await asyncio.to_thread(daemon.wait)
    await asyncio.to_thread(daemon.start)
    run()
    await registered(kubelet)
    left = {path.name for path in (short_path / "cdi").iterdir()}
    assert left == {"furiosa.ai-npu-claim-u1.json", "furiosa.ai-npu.json"}
    (short_path / "cdi" / "furiosa.ai-npu.json").unlink()
    assert specs(short_path) == before
    assert (await prepare(kubelet, claim("u1"))).claims["u1"].error == ""
    assert await unprepare(kubelet, claim("u1")) == {"u1": ""}


async def test_health_is_streamed(kubelet: FakeKubelet, run: Run, broker: Connection) -> None:
    run()
    async with grpc.aio.insecure_channel(f"unix:{await registered(kubelet)}") as channel:
        stub: Any = channel.unary_stream(
            f"/{SUPPORTED[2]}/NodeWatchResources",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.NodeWatchResourcesResponse.FromString,
        )
        stream = stub(pb.NodeWatchResourcesRequest())

        def sick(response: pb.NodeWatchResourcesResponse) -> Sequence[str]:
            unhealthy = pb.HealthStatus.UNHEALTHY
            return [d.device.device_name for d in response.devices if d.health == unhealthy]

        first = await stream.read()
        assert (len(first.devices), sick(first)) == (6, [])
        await broker.emulate(DeviceFile.parse("npu1"), Dead())
        async with asyncio.timeout(60):
            assert sick(await stream.read()) == ["npu1pe0", "npu1pe1", "npu1pe0-1"]
        stream.cancel()


@pytest.mark.parametrize(
    ("environ", "code", "text"),
    [
        ({}, 2, "--node-name is not given, and NODE_NAME not set"),
        ({"NODE_NAME": "n"}, 1, "this is no pod of a cluster"),
    ],
)
def test_what_is_missing_is_told_in_one_line(environ: dict[str, str], code: int, text: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KUBERNETES_", "NODE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "furiosa.dra"],
        env=kept | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert text in line


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "shared counters" in capsys.readouterr().out
