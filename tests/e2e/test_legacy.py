"""Programs for the API before SDK 0.10, and what the environment asks for, on a real broker."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import digits
from support.daemon import Daemon

LEGACY = Path(__file__).resolve().parents[1] / "support" / "legacy_program.py"
IMAGE = digits.held_out_images()[0]
LABEL = digits.held_out_labels()[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    path.write_bytes(digits.int8_model())
    return path


def run(arguments: list[str], daemon: Daemon, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {**os.environ, **daemon.environ, "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_a_legacy_program_runs_unedited(daemon: Daemon, model: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.npy"
    np.save(image, IMAGE)
    done = run([str(LEGACY), str(model), str(image)], daemon)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Inputs:"
    assert lines[4:] == [
        f"run: {LABEL} False",
        "run_with: True",
        "expected (1, 1, 28, 28) (float32) but got (3,) (float32)",
        "received: 20",
        "queue waiting timed out (native error code: 11)",
        "Session or AsyncSession terminated (native error code: 22)",
        "NPU device busy (native error code: 23)",
        "fail to compile a given model to NPU binary (native error code: 14)",
    ]
    warned = {
        line.split("FutureWarning: ")[1] for line in done.stderr.splitlines() if "FutureW" in line
    }
    assert {text for text in warned if "module" in text} == {
        f"'furiosa.runtime.{name}' module is deprecated and will be removed in a future release."
        for name in ("errors", "session", "tensor")
    }
    assert "Information Dump" in done.stderr


PROGRAM = """
import sys, numpy
from furiosa.runtime.sync import create_runner
with create_runner(sys.argv[1], device="npu:0:0") as runner:
    for _ in range(3):
        runner.run(numpy.zeros((1, 1, 28, 28), numpy.float32))
"""


def test_the_process_is_traced_down_to_operators(
    daemon: Daemon, model: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    done = run(["-c", PROGRAM, str(model)], daemon, FURIOSA_PROFILER_OUTPUT_PATH=str(trace))
    assert (done.returncode, done.stderr) == (0, "")
    events = [event for event in json.loads(trace.read_text()) if event["ph"] == "X"]
    names = [event["name"] for event in events]
    assert names.count("Inference") == names.count("Load") == 3
    assert "LowLevelConv2d" in names


def test_the_log_of_a_program(daemon: Daemon, model: Path, tmp_path: Path) -> None:
    quiet = run(["-c", PROGRAM, str(model)], daemon)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    logs = tmp_path / "logs"
    environ = {"FURIOSA_LOG_LEVEL": "INFO", "FURIOSA_LOG_DIR": str(logs)}
    code = "import os; del os.environ['FURIOSA_TEST_IS_RUNNING']\n" + PROGRAM
    done = run(["-c", code, str(model)], daemon, **environ)
    texts = [re.sub(r"^\S+Z  INFO [\w.]+: ", "", line) for line in done.stderr.splitlines()]
    (log,) = logs.iterdir()
    assert f"Saving the compilation log into {log}" in texts
    kept = [text for text in texts if text.startswith(("Model#0001 has been compiled", "lease "))]
    compiled, leased = kept
    assert compiled.startswith("Model#0001 has been compiled successfully")
    assert " was granted after 0." in leased
