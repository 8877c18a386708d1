"""A trace of the whole process, in processes that do nothing but record."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# one span, as `record` leaves it, made without any device
BODY = """
import os, sys
import furiosa.runtime
from furiosa.runtime._core import recording
from furiosa.runtime._core.spans import Named, below

def span(name):
    place, parent = below(None)
    recording.add(Named(place, parent, 1, 10, 20, name))
"""


def run(code: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BODY + code],
        env={"PYTHONPATH": ":".join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def names(path: Path) -> list[str]:
    events: list[dict[str, Any]] = json.loads(path.read_text())
    assert all(event["ph"] == "X" for event in events)
    return [event["name"] for event in events]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


@pytest.fixture
def environ(trace: Path) -> dict[str, str]:
    return {"FURIOSA_PROFILER_OUTPUT_PATH": str(trace)}


def test_everything_of_a_process_is_written_at_its_end(
    trace: Path, environ: dict[str, str]
) -> None:
    assert run("span('one'); span('two')", environ) == ""
    assert names(trace) == ["one", "two"]
    run("span('three')", environ)
    assert names(trace) == ["three"]


def test_a_process_without_the_variable_pays_nothing() -> None:
    run("assert not recording.active and 'furiosa.runtime._process_trace' not in sys.modules", {})


def test_the_older_variable_warns(trace: Path) -> None:
    text = run("span('one')", {"NUX_PROFILER_PATH": str(trace)})
    assert text == (
        "NUX_PROFILER_PATH will be deprecated. Use FURIOSA_PROFILER_OUTPUT_PATH instead.\n"
    )
    assert names(trace) == ["one"]


def test_an_exception_that_ends_the_process_does_not_end_the_trace(
    trace: Path, environ: dict[str, str]
) -> None:
    run("span('one'); sys.exit(0)", environ)
    assert names(trace) == ["one"]


def test_a_profiler_records_nothing_and_says_so(trace: Path, environ: dict[str, str]) -> None:
    code = """
from furiosa.runtime.profiler import profile, RecordFormat
with open(os.devnull, "w") as file, profile(format=RecordFormat.PandasDataFrame, file=file) as p:
    with p.record("mine"):
        span("inside")
p.print_summary()
"""
    text = run(code, environ)
    assert text == f"Wrtting profiler output into {trace}. Profiler API profile() disabled\n"
    assert names(trace) == ["inside", "mine"]


def test_a_forked_child_writes_beside_it(trace: Path, environ: dict[str, str]) -> None:
    code = """
span("before")
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    idle = os.fork()
    if not idle:
        sys.exit(0)
    os.waitpid(idle, 0)
    span("parent")
else:
    span("child")
    sys.exit(0)
"""
    run(code, environ)
    assert names(trace) == ["before", "parent"]
    (other,) = (path for path in trace.parent.iterdir() if path != trace)
    assert other.name.startswith("trace.json.")
    assert names(other) == ["child"]


def test_two_processes_at_once_have_a_file_each(trace: Path, environ: dict[str, str]) -> None:
    inner = BODY + "span('inner')"
    code = f"""
import subprocess
span("outer")
subprocess.run([sys.executable, "-c", {inner!r}], check=True)
"""
    run(code, environ)
    (other,) = (path for path in trace.parent.iterdir() if path != trace)
    assert (names(trace), names(other)) == (["outer"], ["inner"])


@pytest.mark.parametrize("kind", ["no folder", "pipe"])
def test_what_cannot_be_written_is_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "gone" / "trace.json"
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    text = run("assert not recording.active", {"FURIOSA_PROFILER_OUTPUT_PATH": str(path)})
    assert text.startswith(f"the profiler output cannot be written into {path}: ")
