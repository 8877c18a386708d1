"""The program: what it says, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.exporter.command_line import parse
from furiosa.exporter.families import Naming
from furiosa.exporter.main import main
from support.scrapes import get, key, samples

PROGRAM = (sys.executable, "-m", "furiosa.exporter")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "65536"], "--port is '65536', expected 0 to 65535"),
        (["--port", "http"], "--port is 'http', expected 0 to 65535"),
        (["--interval", "0"], "--interval is '0', expected seconds, 1 to 3600"),
        (["--interval", "nan"], "--interval is 'nan', expected seconds, 1 to 3600"),
        (["--node-name", "a\nb"], "the node's name is 'a\\nb', expected printable text"),
        (
            ["--listen-address", "nowhere.invalid", "--port", "0"],
            "--listen-address nowhere.invalid",
        ),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"furiosa-npu-metrics-exporter: {text}")


def test_a_port_that_somebody_has_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--listen-address", "127.0.0.1", "--port", port]) == 2
    assert f"--port {port}: Address already in use" in capsys.readouterr().err


def test_the_published_defaults() -> None:
    line = parse([], {"NODE_NAME": "node-1"})
    assert (line.port, line.what.interval, line.what.node) == (6254, 10.0, "node-1")
    assert (line.pod_resources, line.what.naming) == (None, Naming.WARBOY)
    assert parse(["--node-name", "b"], {"NODE_NAME": "a"}).what.node == "b"
    assert parse([], {}).what.node == socket.gethostname()
    assert parse(["--kube-resources-label"], {}).pod_resources is not None
    assert parse(["--enable-npu-utilization"], {}).what.with_use
    assert not parse(["--no-enable-npu-utilization"], {}).what.with_use


def test_it_serves_metrics_and_ends_in_order_when_it_is_told_to(root: Path) -> None:
    environ = {**os.environ, "FURIOSA_DEVICE_ROOT": str(root), "NODE_NAME": "node-1"}
    process = subprocess.Popen(
        [*PROGRAM, "--port", "0", "--listen-address", "127.0.0.1", "--log-level", "info"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as lines:
        said = lines.readline()
        url = said.split(" at ")[1].strip()
        found = samples(get(url))
        assert found[key("furiosa_npu_alive", device="npu10", node="node-1")] == 1
        assert get(url.replace("/metrics", "/healthz")) == "ok\n"
        process.send_signal(signal.SIGTERM)
        rest = lines.read()
    assert process.wait(60) == 0
    assert rest.endswith("stopped\n")
    assert "Traceback" not in rest
