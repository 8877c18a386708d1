"""`furiosa-litmus`: its command line, every line it prints, and what it collects."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from furiosa.cli.furiosa_litmus import main
from furiosa.common.build import VERSION
from support import digits
from support.daemon import Daemon

COMMAND = (sys.executable, "-m", "furiosa.cli.furiosa_litmus")
MODEL = str(digits.FLOAT_MODEL)
HEAD = (
    f"libfuriosa_hal.so --- v{VERSION.version}, built @ 0000000\n"
    "INFO:furiosa.common.native:loaded native library "
    f"libfuriosa_compiler.so.{VERSION.version} ({VERSION.version}-dev 000000000)\n"
    f"furiosa-quantizer {VERSION.version} (rev. 000000000) "
    f"furiosa-litmus {VERSION.version} (rev. 000000000)\n"
)
STEPS_1_2 = """\
[Step 1] Checking if the model can be loaded and optimized ...
[Step 1] Passed
[Step 2] Checking if the model can be quantized ...
[Step 2] Passed
"""
STEPS_1_2_SKIPPED = """\
[Step 1] Skip model loading and optimization
[Step 2] Skip model quantization
[Step 1 & Step 2] Load quantized model ...
"""
STEP_3 = "[Step 3] Checking if the model can be compiled for the NPU family [warboy-2pe] ...\n"
PROGRESS = """\
[1/6] 🔍   Compiling from onnx to dfg
Done in <t>s
[2/6] 🔍   Compiling from dfg to ldfg
▪▪▪▪▪ [1/3] Splitting graph(LAS)...Done in <t>s
▪▪▪▪▪ [2/3] Lowering graph(LAS)...Done in <t>s
▪▪▪▪▪ [3/3] Optimizing graph...Done in <t>s
Done in <t>s
[3/6] 🔍   Compiling from ldfg to cdfg
Done in <t>s
[4/6] 🔍   Compiling from cdfg to gir
Done in <t>s
[5/6] 🔍   Compiling from gir to lir
Done in <t>s
[6/6] 🔍   Compiling from lir to enf
Done in <t>s
"""
FINISHED = "✨  Finished in <t>s\n"
STEP_3_PASSED = "[Step 3] Passed\n"
STEP_4 = "[Step 4] Perform inference once for data collection... (Optional)\n"
REPORT = f"""\
{"=" * 70}
This benchmark was executed with latency-workload which prioritizes latency of individual queries \
over throughput.
1 queries executed with batch size 1
Latency stats are as follows
QPS(Throughput): <q>/s

Per-query latency:
Min latency (us)    : <n>
Max latency (us)    : <n>
Mean latency (us)   : <n>
50th percentile (us): <n>
95th percentile (us): <n>
99th percentile (us): <n>
99th percentile (us): <n>
"""
STEP_4_FINISHED = "[Step 4] Finished\n"
ALL = STEPS_1_2 + STEP_3 + PROGRESS + FINISHED + STEP_3_PASSED + STEP_4 + FINISHED + REPORT


@pytest.fixture(scope="module")
def broker() -> Iterator[Daemon]:
    made = Daemon(1)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def here(broker: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; the broker is the default one."""
    monkeypatch.setenv("FURIOSA_BROKER", broker.environ["FURIOSA_BROKER"])
    monkeypatch.delenv("FURIOSA_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def neutral(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r" in [0-9.]+s$", " in <t>s", text, flags=re.MULTILINE)
    text = re.sub(r"\(us\)( *): \d+$", r"(us)\1: <n>", text, flags=re.MULTILINE)
    return re.sub(r": \d+\.\d\d/s$", ": <q>/s", text, flags=re.MULTILINE)


def members(archive: Path) -> dict[str, bytes]:
    """By name without the top folder, which all have."""
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        (top,) = {name.partition("/")[0] for name in names}
        assert re.fullmatch(re.escape(archive.stem) + "[a-z0-9_]{8}", top)
        return {name.partition("/")[2]: opened.read(name) for name in names}


def archive_of(prefix: str) -> Path:
    (archive,) = Path().glob(f"{prefix}-*.zip")
    assert re.fullmatch(rf"{prefix}-\d+\.zip", archive.name)
    return archive


def saved(
    node: str = "Relu", shape: Sequence[int | str] = (1, 4), kind: int = TensorProto.FLOAT
) -> str:
    """A model of one operator, from `x` to `y`."""
    graph = helper.make_graph(
        [helper.make_node(node, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    Path("model.onnx").write_bytes(model.SerializeToString())
    return "model.onnx"


def test_r56_r58_r59_r60_r61_r62_r63_the_help_has_the_published_synopsis(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["-h"]) == 0
    out = capsys.readouterr().out
    assert " ".join(out.partition("\n\n")[0].split()) == (
        "usage: furiosa-litmus [-h] [--dump OUTPUT_PREFIX] [--skip-quantization] "
        "[--target-npu TARGET_NPU] [-v] model_path"
    )
    assert "\nValidate the model\n" in out
    assert "(default: warboy-2pe)" in out


def test_r46_r47_r51_r53_r64_r65_r66_r67_r68_r69_r70_r71_r72_r73_r74_r75_all_lines_in_their_order(
    here: Path,
) -> None:
    done = subprocess.run(
        [*COMMAND, MODEL], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert neutral(done.stdout) == HEAD + ALL + STEP_4_FINISHED
    assert done.returncode == 0


def test_r57_both_spellings_are_the_same_command() -> None:
    folder = Path(sys.executable).parent
    one = subprocess.run([folder / "furiosa-litmus", "-h"], capture_output=True, text=True)
    other = subprocess.run([folder / "furiosa", "litmus", "-h"], capture_output=True, text=True)
    assert one.stdout == other.stdout != ""
    assert one.returncode == other.returncode == 0


def test_r54_each_line_has_its_stream(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([MODEL]) == 0
    out, err = map(neutral, capsys.readouterr())
    assert out == STEPS_1_2 + STEP_3 + STEP_3_PASSED + STEP_4 + REPORT + STEP_4_FINISHED
    assert err == HEAD + PROGRESS + FINISHED + FINISHED


def test_r76_r77_a_quantized_model_skips_two_steps(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("int8.onnx").write_bytes(digits.int8_model())
    assert main(["--skip-quantization", "int8.onnx"]) == 0
    out, err = map(neutral, capsys.readouterr())
    assert out == STEPS_1_2_SKIPPED + STEP_3 + STEP_3_PASSED + STEP_4 + REPORT + STEP_4_FINISHED
    assert err.startswith(HEAD)


@pytest.mark.parametrize(
    ("target", "devices"), [("warboy", "npu0pe0"), ("warboy-2pe", "npu0pe0-1")]
)
def test_r61_it_runs_on_as_many_cores_as_the_target_has(
    target: str, devices: str, here: Path, broker: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    before = broker.log.count("lease.granted")
    assert main(["--target-npu", target, MODEL]) == 0
    assert f"NPU family [{target}] ..." in capsys.readouterr().out
    (granted,) = [line for line in broker.log.splitlines() if "lease.granted" in line][before:]
    assert f"={devices} " in granted


def test_r62_verbose_shows_the_steps_of_the_compiler(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-v", MODEL]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^import-onnx took ", err, re.MULTILINE)
    assert neutral(out) == STEPS_1_2 + STEP_3 + STEP_3_PASSED + STEP_4 + REPORT + STEP_4_FINISHED


def test_r49_r78_r80_r81_r82_r83_the_archive_has_exactly_its_members(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = int(time.time())
    assert main(["--dump", "a", MODEL]) == 0
    out, err = map(neutral, capsys.readouterr())
    assert out == STEPS_1_2 + STEP_3 + STEP_3_PASSED + STEP_4 + REPORT + STEP_4_FINISHED
    assert err == HEAD + PROGRESS + FINISHED + FINISHED
    archive = archive_of("a")
    assert [*Path().iterdir()] == [archive]
    assert before <= int(archive.stem.removeprefix("a-")) <= time.time()
    found = members(archive)
    assert list(found) == [
        "meta.yaml",
        "compiler/compiler.log",
        "compiler/memory-analysis.html",
        "compiler/model.dot",
        "runtime/trace.json",
    ]
    log = neutral(found["compiler/compiler.log"].decode())
    assert [line for line in log.splitlines() if " took " not in line and ": " not in line] == (
        PROGRESS + FINISHED
    ).splitlines()
    assert "import-onnx took" in log
    assert found["compiler/memory-analysis.html"].startswith(b"<!doctype html>")
    assert found["compiler/model.dot"].startswith(b"digraph")
    names = [event["name"] for event in json.loads(found["runtime/trace.json"])]
    assert names.count("Inference") == 1


def test_r48_r50_r78_meta_says_versions_and_environment(here: Path) -> None:
    assert main(["--dump", "a", MODEL]) == 0
    meta = yaml.safe_load(members(archive_of("a"))["meta.yaml"])
    assert list(meta) == ["sdk", "environment", "os", "cpu", "model", "devices", "compiler_config"]
    assert list(meta["sdk"]) == ["compiler", "runtime", "quantizer"]
    assert list(meta["sdk"]["compiler"]) == ["version", "rev", "built"]
    package = {"version": VERSION.version, "stage": VERSION.stage, "hash": VERSION.hash}
    assert meta["sdk"]["runtime"] == meta["sdk"]["quantizer"] == package
    assert list(meta["environment"]) == [
        *("python", "glibc", "libonnxruntime", "datetime", "timezone"),
    ]
    assert meta["environment"]["python"].startswith(sys.version.split()[0])
    assert meta["environment"]["libonnxruntime"] == onnx.__version__
    assert meta["environment"]["timezone"] == str(time.tzname)
    assert list(meta["os"]) == ["platform", "distrib", "distrib_release", "kernel"]
    assert meta["os"]["kernel"].startswith(f"{os.uname().release} / ")
    assert meta["cpu"]["cores"] == os.cpu_count()
    assert meta["cpu"]["memory"] > 1 << 28
    assert list(meta["model"]) == ["filename", "size", "md5", "created_at"]
    assert meta["model"]["filename"] == "digits_cnn.onnx"
    assert meta["model"]["size"] == digits.FLOAT_MODEL.stat().st_size
    assert list(meta["model"]["created_at"]) == ["datetime", "timezone"]
    (card,) = meta["devices"].values()
    assert list(meta["devices"]) == ["npu0"]
    assert list(card) == ["serial_number", "uuid", "pci_dev", "firmware"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", card["firmware"]["version"])
    assert re.fullmatch(r"[0-9a-f]{7}", card["firmware"]["rev"])
    assert meta["compiler_config"] == {}


def test_r49_the_model_is_not_in_the_archive(here: Path) -> None:
    model = onnx.load(MODEL)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert main(["-v", "--dump", "a", MODEL]) == 0
    found = members(archive_of("a"))
    assert sum(map(len, found.values())) < digits.FLOAT_MODEL.stat().st_size
    for name, content in found.items():
        for weight in weights:
            numbers = [str(number).encode() for number in np.ravel(weight)[:4]]
            assert weight.tobytes() not in content, name
            assert not all(number in content for number in numbers if len(number) > 4), name


@pytest.mark.parametrize(
    ("step", "arguments", "said", "found"),
    [
        (1, ["dynamic.onnx"], "The static shape of tensor 'x' must be provided", []),
        (2, ["bool.onnx"], "random data of type BOOL is not implemented: tensor 'x'", []),
        (3, ["--target-npu", "warboy-3pe", MODEL], "invalid NPU id 'warboy-3pe'", ["log"]),
        (4, [MODEL], "npu:7:0 not found", ["log", "html", "dot"]),
    ],
)
def test_r49_r79_a_failure_is_told_and_the_archive_is_written(
    step: int,
    arguments: list[str],
    said: str,
    found: list[str],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FURIOSA_DEVICES", "npu7pe0")
    Path(saved(shape=(1, "size"))).rename("dynamic.onnx")
    Path(saved("Not", kind=TensorProto.BOOL)).rename("bool.onnx")
    assert main(["--dump", "a", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out.endswith(" ...\n" if step < 4 else STEP_4)
    assert re.search(rf"\[Step {step}\] Failed\n\nERROR: (.*)\n\Z", err)
    assert said in err
    assert [name.rpartition(".")[2] for name in members(archive_of("a"))][1:4] == found


def test_what_is_no_onnx_has_its_own_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "ERROR: other.onnx: Error parsing message"
    Path("other.onnx").write_bytes(b"\x08\xff\xff")
    assert main(["other.onnx"]) == 1
    line = "[Step 1] ERROR: The input file should be a valid ONNX file\n"
    assert capsys.readouterr().err.startswith(HEAD + line + said)
    assert main(["--skip-quantization", "other.onnx"]) == 1
    assert capsys.readouterr().err.startswith(HEAD + "[Step 1 & Step 2] Failed\n\n" + said)
    Path("other.onnx").write_bytes(b"")
    assert main(["other.onnx"]) == 1
    assert line in capsys.readouterr().err


def test_a_model_that_is_not_there_fails_in_the_first_step(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "ERROR: none.onnx does not exist\n"
    last = "ERROR: none.onnx: No such file or directory\n"
    assert main(["none.onnx"]) == 1
    assert capsys.readouterr().err == HEAD + said + "[Step 1] Failed\n\n" + last
    assert main(["--dump", "a", "none.onnx"]) == 1
    assert capsys.readouterr() == ("", HEAD + said + last)
    assert [*Path().iterdir()] == []


def test_r55_without_the_benchmark_the_last_step_is_skipped(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "furiosa.runtime.bench", None)
    monkeypatch.delitem(sys.modules, "furiosa.cli.litmus.inference", raising=False)
    monkeypatch.delattr("furiosa.cli.litmus.inference", raising=False)
    assert main([MODEL]) == 0
    out, err = capsys.readouterr()
    assert out == STEPS_1_2 + STEP_3 + STEP_3_PASSED
    assert err.endswith("\n[Step 4] Skip, there is no furiosa-bench\n")


def test_an_archive_that_cannot_be_written_is_said_first(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dump", "no/such", MODEL]) == 1
    said = "ERROR: no is no folder that can be written to\n"
    assert capsys.readouterr() == ("", HEAD + said)


def test_a_full_disk_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("furiosa.cli.litmus.bundle.save", full)
    assert main(["--dump", "a", MODEL]) == 1
    out, err = capsys.readouterr()
    assert out.endswith(STEP_4_FINISHED)
    assert re.search(r"\nERROR: a-\d+\.zip: No space left on device\n\Z", err)


def test_ctrl_c_in_the_run_frees_the_cores_and_leaves_the_archive(
    here: Path, broker: Daemon
) -> None:
    with subprocess.Popen(
        [*COMMAND, "--dump", "a", MODEL], stdout=subprocess.PIPE, text=True
    ) as done:
        assert done.stdout is not None
        for line in done.stdout:
            if line == STEP_4:
                done.send_signal(signal.SIGINT)
        assert done.wait() == 130
    assert list(members(archive_of("a")))[:2] == ["meta.yaml", "compiler/compiler.log"]
    assert "0 (available), 1 (available)" in broker.furiosactl("list").stdout


def test_the_help_needs_neither_compiler_nor_runtime() -> None:
    code = (
        "import sys; from furiosa.cli.furiosa_litmus import main; main(['-h']);"
        "assert not {'numpy', 'onnx', 'furiosa.runtime'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
