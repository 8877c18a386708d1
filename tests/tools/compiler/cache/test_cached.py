"""Compiling with a cache gives what compiling gives, sooner."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import furiosa.tools.compiler.cache.cached as module
from furiosa.common.clock import ManualClock
from furiosa.compiler import CompilerOptions, InvalidFormat, PrintProgress, compile
from furiosa.tools.compiler.cache import compile_cached, open_results
from support import models

MODEL = models.quantized(models.residual_cnn()).SerializeToString()
PROCESSES = 6

_COMPILE = """
import os, sys
from pathlib import Path
from furiosa.tools.compiler.cache import compile_cached, open_results
model = Path(sys.argv[1]).read_bytes()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    result = compile_cached(model, results=open_results(os.environ), is_reused=False)
    assert compile_cached(model, results=open_results(os.environ)) == result
sys.stdout.buffer.write(result)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"FC_CACHE_STORE_URL": str(tmp_path / "cache")}


def test_the_second_time_no_stage_runs(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compile_cached(MODEL, results=open_results(environment))
    assert first == compile(MODEL)
    monkeypatch.setattr(module, "compile", None)
    said = io.StringIO()
    again = compile_cached(
        MODEL,
        progress=PrintProgress(said),
        results=open_results(environment),
        clock=ManualClock(1.0),
    )
    assert again == first
    assert said.getvalue() == "✨  Finished in 0s\n"


def test_other_options_are_another_result(environment: dict[str, str]) -> None:
    for options in (CompilerOptions(batch_size=2), CompilerOptions(target_ir="lir")):
        compile_cached(MODEL, results=open_results(environment))
        found = compile_cached(MODEL, options, results=open_results(environment))
        assert found == compile(MODEL, options)


def test_what_is_not_reused_is_made_anew_and_kept(environment: dict[str, str]) -> None:
    expected = compile_cached(MODEL, results=open_results(environment))
    (entry,) = Path(environment["FC_CACHE_STORE_URL"]).iterdir()
    entry.write_bytes(b"broken")
    found = compile_cached(MODEL, results=open_results(environment), is_reused=False)
    assert found == expected
    assert entry.read_bytes().endswith(expected)


def test_failures_are_not_kept(environment: dict[str, str]) -> None:
    for _ in range(2):
        with pytest.raises(InvalidFormat):
            compile_cached(b"no model", results=open_results(environment))
    assert not Path(environment["FC_CACHE_STORE_URL"]).exists()


def test_processes_that_compile_the_same_at_once_all_get_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    command = [sys.executable, "-c", _COMPILE, str(tmp_path / "model.onnx")]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"FC_CACHE_ENABLED": "1"} | environment,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        done = [process.communicate(b"\n", timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [err for _, err in done] == [b""] * PROCESSES
    assert {out for out, _ in done} == {compile(MODEL)}
    assert len(list(Path(environment["FC_CACHE_STORE_URL"]).iterdir())) == 1
