"""NPUs in real containers: what CDI gives them is what they may lease, and no more."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import OwnerView
from furiosa.compiler import CompilerOptions, compile
from support.clients import Raised, Steered
from support.daemon import Daemon
from support.podman import Podman
from support.qdq_nets import Qdq
from support.waiting import block_until

RUN = """
import numpy
from furiosa.runtime.sync import create_runner
def infer(path, value):
    with open(path, "rb") as file, create_runner(file.read()) as runner:
        (shape,) = [tensor.shape for tensor in runner.model.inputs()]
        (output,) = runner.run([numpy.full(shape, value, numpy.int8)])
        return output.ravel().tolist()
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    made = Daemon(2, embedded=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    return shared


@pytest.fixture
def podman(daemon: Daemon) -> Iterator[Podman]:
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    folder.chmod(0o755)
    try:
        made = Podman(folder)
        path = made.cdi / "furiosa.json"
        done = daemon.furiosactl("cdi", "generate", "--output", str(path))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        yield made
        made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def program() -> bytes:
    net = Qdq()
    x = net.input(1, 3, 8, 8)
    weights = net.stored(4, 3, 3, 3, scale=0.01)
    y = net.rounded(net.node("Conv", x, weights, pads=[1, 1, 1, 1]))
    return compile(net.model(y).SerializeToString(), CompilerOptions(target="warboy"))


def holder(lease: str) -> OwnerView:
    with Connection.open(client="test") as connection:
        (found,) = (each.owner for each in connection.leases() if each.id == lease)
        return found


def test_a_container_runs_inferences_on_what_it_was_given_and_is_shown_by_its_host_pid(
    daemon: Daemon, podman: Podman
) -> None:
    enf = podman.shared / "program.enf"
    enf.write_bytes(program())
    with Steered(daemon.environ) as here:
        here.ask(RUN)
        here.ask("os.environ.__setitem__('FURIOSA_DEVICES', 'npu1pe0')")
        expected = here.ask(f"infer({str(enf)!r}, 15)")
    assert len(set(expected)) > 1
    with podman.start("furiosa.ai/npu=npu0pe0") as container:
        container.ask(RUN)
        assert container.ask(f"infer({str(enf)!r}, 15)") == expected
        lease = container.ask("acquire('npu0pe0')")
        owner = holder(lease)
        assert owner.container is not None
        assert (owner.container.runtime, len(owner.container.id)) == ("podman", 64)
        inside = container.ask("os.getpid()")
        assert owner.pid != inside, "the host's, not the container's"
        shown = daemon.furiosactl("ps", "--wide").stdout
        (row,) = (line for line in shown.splitlines() if "npu0pe0" in line)
        assert str(owner.pid) in row
        assert owner.container.id[:12] in row


def test_it_cannot_lease_another_core(podman: Podman) -> None:
    with podman.start("furiosa.ai/npu=npu0pe0") as container:
        for spec in ("npu0pe1", "npu0", "npu1pe0", "warboy(2)*1"):
            with pytest.raises(Raised, match="it was given npu0pe0"):
                container.ask(f"acquire({spec!r})")
        assert container.ask("acquire('warboy(1)*1')")


def test_its_core_is_free_when_it_is_killed(podman: Podman) -> None:
    with (
        podman.start("furiosa.ai/npu=npu0pe0") as container,
        Connection.open(client="test") as connection,
    ):
        lease = container.ask("acquire('npu0pe0')")
        with pytest.raises(DeviceBusy):
            connection.acquire(DeviceSpec.parse("npu0pe0"))
        os.kill(holder(lease).pid, 9)
        assert connection.acquire(DeviceSpec.parse("npu0pe0"), wait_limit=60)


def test_two_containers_and_a_container_with_two_devices(podman: Podman) -> None:
    two = ("furiosa.ai/npu=npu0pe1", "furiosa.ai/npu=npu1pe0")
    with (
        podman.start("furiosa.ai/npu=npu0pe0") as one,
        podman.start(*two) as other,
    ):
        names = [
            client.ask("[v for k, v in sorted(os.environ.items()) if k.startswith('FURIOSA_DEV')]")
            for client in (one, other)
        ]
        assert names == [["npu0pe0"], ["npu0pe1", "npu1pe0"]]
        assert one.ask("acquire('npu0pe0')")
        files = "[str(f) for f in connection.acquire(DeviceSpec.parse('warboy(1)*2')).device_files]"
        assert other.ask(files) == ["npu0pe1", "npu1pe0"]


def test_a_user_in_a_container_has_what_its_container_has(podman: Podman) -> None:
    with podman.start("furiosa.ai/npu=npu0pe0", user="1234") as container:
        lease = container.ask("acquire('npu0pe0')")
        assert holder(lease).uid == 1234
        with pytest.raises(Raised, match="it was given npu0pe0"):
            container.ask("acquire('npu0pe1')")


def test_a_container_has_what_was_reserved_for_it(daemon: Daemon, podman: Podman) -> None:
    """As an orchestrator starts it."""
    with Connection.open(client="test") as connection:
        made = connection.reserve([DeviceFile.parse("npu0pe0-1")], manager="test")
        where = connection.grants()
        mounts = (
            f"{made.grant}:/dev/furiosa/{made.id}:ro",
            f"{where.socket_folder}:{where.socket_folder}:ro",
        )
        broker = daemon.environ["FURIOSA_BROKER"]
        with (
            podman.start(mounts=mounts, broker=broker) as mine,
            podman.start(mounts=mounts[1:], broker=broker) as stranger,
        ):
            assert mine.ask("acquire('npu0pe0-1')")
            with pytest.raises(Raised, match="reserved for container"):
                stranger.ask("acquire('npu0pe0')")
            with pytest.raises(Raised, match="it was given npu0pe0-1"):
                mine.ask("acquire('npu1pe0')")
            (shown,) = connection.reservations()
            assert shown.container is not None
            assert shown.container.runtime == "podman"
            with pytest.raises(DeviceBusy):
                connection.cancel_reservation(made.id)
        document = json.loads(daemon.furiosactl("reserved", "--format", "json").stdout)
        assert [each["reservation"] for each in document] == [made.id]
        block_until(lambda: connection.reservations()[0].pids == ())
        connection.cancel_reservation(made.id)


def test_a_container_that_was_given_nothing_gets_nothing_where_grants_are_needed(
    podman: Podman,
) -> None:
    strict = Daemon(1, "--containers", "granted", embedded=False)
    strict.start()
    try:
        mounts = [f"{strict.folder}:{strict.folder}:ro"]
        with (
            podman.start(mounts=mounts, broker=strict.environ["FURIOSA_BROKER"]) as container,
            Steered(strict.environ) as here,
        ):
            with pytest.raises(Raised, match="may not lease cores: it was started without"):
                container.ask("acquire('npu0pe0')")
            assert here.ask("acquire('npu0pe0')"), "a process of the host is no container"
    finally:
        strict.stop()


def test_a_device_that_is_not_there_is_refused_by_the_runtime(podman: Podman) -> None:
    with pytest.raises(AssertionError, match="the client has ended"):
        podman.start("furiosa.ai/npu=npu7")
