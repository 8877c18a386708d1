"""Pods as the manifests confine them, in real containers: they can do their work, and no more is needed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import charts
from support.charts import DEPLOY, Object, by_name
from support.clients import Raised
from support.kubelet.fake import FakeKubelet
from support.kubelet.pods import Pod
from support.node import Node
from support.qdq_nets import Qdq
from support.waiting import block_until

RESOURCE = "beta.furiosa.ai/npu"
INFER = """
import numpy
from furiosa.runtime.sync import create_runner
def infer(path):
    with create_runner(path) as runner:
        (tensor,) = runner.model.inputs()
        (output,) = runner.run([numpy.zeros(tensor.shape, tensor.numpy_dtype)])
        return output.shape
"""


GET = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:{port}{path}").read().decode())
"""


def model() -> bytes:
    net = Qdq()
    x = net.input(1, 3, 8, 8)
    weights = net.stored(4, 3, 3, 3, scale=0.01)
    y = net.rounded(net.node("Conv", x, weights, pads=[1, 1, 1, 1]))
    return net.model(y).SerializeToString()


@pytest.fixture(scope="module")
def manifests() -> dict[str, Object]:
    """With virtual cards."""
    return by_name(charts.of_folder(DEPLOY / "kubernetes-emulated"))


@pytest.fixture
def node(short_path: Path) -> Iterator[Node]:
    short_path.chmod(0o755)
    with Node(short_path) as made:
        yield made


async def test_a_pod_computes_on_the_card_that_it_asked_for(
    node: Node, manifests: dict[str, Object]
) -> None:
    config = node.root / "config"
    config.mkdir()
    for name, text in manifests["ConfigMap/npu-device-plugin"]["data"].items():
        (config / name).write_text(text)
    onnx = node.shared / "model.onnx"
    onnx.write_bytes(model())
    broker = node.run(manifests["DaemonSet/furiosa-broker"], {})
    manager = node.path("/var/lib/furiosa/grants/manager")
    block_until(manager.exists)
    async with FakeKubelet(node.path("/var/lib/kubelet")) as kubelet:
        plugin = node.run(manifests["DaemonSet/furiosa-device-plugin"], {"config": config})
        try:
            await kubelet.until(lambda: kubelet.allocatable(RESOURCE) == 2)
        except TimeoutError:
            pytest.fail(broker.read_text() + plugin.read_text())
        given = (await kubelet.admit(Pod.of("mine", {RESOURCE: 1})))["main"]
        mine = given.envs["NPU_DEVNAME"]
        other = {"npu0pe0-1": "npu1pe0-1", "npu1pe0-1": "npu0pe0-1"}[mine]
        with node.client(given.envs, given.mounts, "65532") as pod:
            pod.ask(INFER)
            assert pod.ask(f"infer({str(onnx)!r})") == [1, 4, 8, 8]
            with pytest.raises(Raised, match=f"it was given {mine}"):
                pod.ask(f"acquire({other!r})")
    log = broker.read_text()
    assert "lease.granted" in log
    assert "worker.lacks" not in log, "its workers are as confined as those of a broker on the node"


async def test_labels_and_metrics_are_those_of_the_brokers_cards(
    node: Node, manifests: dict[str, Object]
) -> None:
    broker = node.run(manifests["DaemonSet/furiosa-broker"], {})
    block_until(lambda: "broker.ready" in broker.read_text())
    async with FakeKubelet(node.path("/var/lib/kubelet")):
        discovery = node.run(manifests["DaemonSet/furiosa-npu-feature-discovery"], {})
        exporter = node.run(manifests["DaemonSet/furiosa-npu-metrics-exporter"], {})
        labels = node.path("/etc/kubernetes/node-feature-discovery/features.d/furiosa-npu")
        await asyncio.to_thread(block_until, labels.exists)
        assert "beta.furiosa.ai/npu.count=2" in labels.read_text(), discovery.read_text()
        await asyncio.to_thread(block_until, lambda: "listening" in exporter.read_text())
        metrics = node.ask("metrics-exporter", GET.format(port=6254, path="/metrics"))
        assert metrics.count("furiosa_npu_alive{") == 2
    assert node.ask("broker", GET.format(port=9464, path="/readyz")).strip() == "ready"
