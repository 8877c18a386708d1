"""The program: what it says, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.deviceplugin.main import main

PROGRAM = (sys.executable, "-m", "furiosa.deviceplugin")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--default-pe", "Both"], "defaultPe is 'Both', expected Fusion or Single"),
        (["--config-file", "/nowhere/c.yaml"], "/nowhere/c.yaml cannot be read"),
    ],
)
def test_bad_settings_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("furiosa-device-plugin: ")
    assert text in line


def test_it_ends_in_order_when_it_is_told_to_also_without_kubelet_and_broker(
    short_path: Path,
) -> None:
    environ = {**os.environ, "FURIOSA_BROKER": f"unix:{short_path}/nobody.sock"}
    process = subprocess.Popen(
        [*PROGRAM, "--plugin-dir", str(short_path)],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as lines:
        assert "the broker is away: no broker at unix:" in lines.readline()
        process.send_signal(signal.SIGTERM)
        rest = lines.read()
    assert process.wait(60) == 0
    assert rest.endswith("stopped\n")
    assert "Traceback" not in rest
