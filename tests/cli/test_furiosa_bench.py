"""`furiosa-bench`: its command line, what it prints and writes, and how it ends."""

import asyncio
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from furiosa.cli import benchmarking
from furiosa.cli.furiosa_bench import main
from furiosa.runtime.bench import BenchReport, BenchRunner, Stage
from furiosa.runtime.sync import create_runner
from support import digits
from support.daemon import Daemon

COMMAND = (sys.executable, "-m", "furiosa.cli.furiosa_bench")
PUBLISHED = (  # in the order of the help
    *("-b, --batch", "-o, --output", "-C, --compiler-config", "-d, --devices", "-h, --help"),
    *("-t, --io-threads", "--duration", "-n, --queries", "-T, --trace-output", "-V, --version"),
    *("-v, --verbose", "-w, --workers", "--workload"),
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Daemon]:
    made = Daemon(1)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return str(path)


@pytest.fixture
def here(broker: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; the broker is the default one."""
    monkeypatch.setenv("FURIOSA_BROKER", broker.environ["FURIOSA_BROKER"])
    monkeypatch.setenv("FURIOSA_DEVICES", "npu0pe0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_r84_the_help_has_the_published_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("USAGE:\n  furiosa-bench [OPTIONS] <model-path>\n")
    usage, options, arguments = (out.index(f"{title}:\n") for title in ("USAGE", "OPTIONS", "ARGS"))
    assert usage < options < arguments
    heads = re.findall(r"^  (-\S.*?)(?:  |$)", out, re.MULTILINE)
    names = [re.sub(r" <.*?>", "", head) for head in heads]
    assert names[: len(PUBLISHED)] == list(PUBLISHED)
    assert re.search(r"^  <model-path> ", out[arguments:], re.MULTILINE)


def test_r84_the_report_is_the_published_one(
    enf: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([enf]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no progress where nobody looks
    assert re.fullmatch(
        r"={70}\n"
        r"This benchmark was executed with latency-workload which prioritizes latency of individual"
        r" queries over throughput\.\n"
        r"1 queries executed with batch size 1\n"
        r"Latency stats are as follows\n"
        r"QPS\(Throughput\): \d+\.\d\d/s\n"
        r"\n"
        r"Per-query latency:\n"
        r"Min latency \(us\)    : (\d+)\n"
        r"Max latency \(us\)    : \1\n"
        r"Mean latency \(us\)   : \1\n"
        r"50th percentile \(us\): \1\n"
        r"95th percentile \(us\): \1\n"
        r"99th percentile \(us\): \1\n"
        r"99th percentile \(us\): \1\n",
        out,
    )


@pytest.mark.parametrize(
    ("workload", "mode"),
    [("L", "Latency"), ("latency", "Latency"), ("T", "Throughput"), ("throughput", "Throughput")],
)
def test_r84_the_json_report_is_the_published_one(
    workload: str, mode: str, enf: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([enf, "-n", "30", "-w", "2", "--workload", workload, "-o", "report.json"]) == 0
    text = Path("report.json").read_text()
    report = json.loads(text)
    assert text == json.dumps(report, indent=4) + "\n"
    digest = hashlib.md5(Path(enf).read_bytes()).hexdigest()
    assert report["model_data"] == {"path": enf, "md5": f"{digest}  {enf}"}
    assert list(report) == [
        *("model_data", "compiler_version", "hal_version", "git_revision", "result"),
    ]
    result = report["result"]
    assert result["mode"] == mode
    assert result["total num queries"] == 30
    assert re.fullmatch(r"\d+ us", result["total run time"])
    assert re.fullmatch(r"\d+\.\d\d/s", result["qps"])
    assert f"QPS(Throughput): {result['qps']}\n" in capsys.readouterr().out


def test_traces_and_plots_are_written(
    enf: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [enf, "-n", "20", "--warm-up", "3", "-T", "trace.json"]
    assert main([*arguments, "--plot", "plot.svg"]) == 0
    names = [event["name"] for event in json.loads(Path("trace.json").read_text())]
    assert names.count("Inference") == 20
    root = ElementTree.fromstring(Path("plot.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "20 queries" in "".join(root.itertext())
    assert main([enf, "-n", "20", "--plot", "plot.HTML"]) == 0
    assert "<!doctype html>" in Path("plot.HTML").read_text()


def test_configuration_keys_reach_the_compiler(
    here: Path, enf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(digits.FLOAT_MODEL)
    Path("keys.yaml").write_text("permute_input: [[0, 3, 1, 2]]\n")
    assert main([enf, "-C", "keys.yaml"]) == 1
    assert "is compiled already: compiler_config" in capsys.readouterr().err
    Path("keys.yaml").write_text("no_such_key: 1\n")
    assert main([model, "-C", "keys.yaml"]) == 1
    assert "no_such_key" in capsys.readouterr().err
    for text in ("- a", "a: [", "1: 2", "\x00"):
        Path("keys.yaml").write_text(text)
        assert main([model, "-C", "keys.yaml"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("furiosa-bench: keys.yaml: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.onnx"], "none.onnx"),
        (["broken.onnx"], "broken.onnx"),
        (["{enf}", "-b", "8"], "is compiled already: batch_size 8"),
        (["{enf}", "-d", "npu7pe0"], "npu:7:0 not found"),
        (["{enf}", "-d", "nonsense"], "nonsense"),
        (["{enf}", "-o", "."], "is a folder"),
        (["{enf}", "-o", "no/such/report.json"], "no/such"),
        (["{enf}", "-T", "no/such/trace.json"], "no/such"),
        (["{enf}", "--plot", "no/such/plot.svg"], "no/such"),
        (["{enf}", "-C", "none.yaml"], "none.yaml: No such file or directory"),
        (["copy.enf", "-o", "copy.enf"], "copy.enf is the model itself"),
        (["--compare", "none.json", "none.json"], "none.json: No such file or directory"),
        (["--compare", "broken.onnx", "broken.onnx"], "broken.onnx: no JSON report"),
    ],
)
def test_what_fails_is_one_line_and_status_1(
    arguments: list[str], said: str, enf: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.onnx").write_bytes(b"\x08\xff\xff")
    Path("copy.enf").write_bytes(Path(enf).read_bytes())
    assert main([text.format(enf=enf) for text in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"furiosa-bench: .*\n", err)
    assert said in err


def test_a_busy_device_is_one_line_and_status_1(
    enf: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_runner(enf, device="npu0pe0"):
        assert main([enf]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"furiosa-bench: .*npu0pe0.*\n", err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: <model-path>"),
        (["m", "--no-such"], "unrecognized arguments: --no-such"),
        (["m", "--workload", "X"], "invalid choice: 'X'"),
        (["m", "-b", "3"], "batch: expected a power of two, found 3"),
        (["m", "-n", "0"], "queries: expected 1 or more, found 0"),
        (["m", "--plot", "plot.png"], "plot.png does not end in .svg or .html"),
        (["m", "--compare", "a", "b"], "--compare takes two reports and no model"),
    ],
)
def test_a_wrong_command_line_is_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_two_reports_side_by_side(enf: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([enf, "-n", "9", "-o", "a.json"]) == 0
    second = json.loads(Path("a.json").read_text())
    second["result"] |= {"qps": "1.00/s", "batch size": 4}
    Path("b.json").write_text(json.dumps(second))
    capsys.readouterr()
    assert main(["--compare", "a.json", "b.json"]) == 0
    out, err = capsys.readouterr()
    assert err == "furiosa-bench: these differ in their batch sizes: 1, 4\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[1::2]]
    assert rows[0] == ["Figure", "a.json", "b.json", "Change", "Second is"]
    assert rows[1][0] == "QPS (/s)"
    assert rows[1][2:] == ["1.00", rows[1][3], "worse"]
    assert [row[3:] for row in rows[2:]] == [["+0.0 %", "equal"]] * 7


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, whose stderr is a terminal, and that terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        os.close(ours)


def until(terminal: int, pattern: str) -> str:
    seen = ""
    while re.search(pattern, seen) is None:
        seen += os.read(terminal, 1 << 12).decode()
    return seen


def test_ctrl_c_reports_what_was_measured_until_then(enf: str, here: Path) -> None:
    with started(enf, "--duration", "1000", "-o", "report.json") as (process, terminal):
        until(terminal, r"measuring: [1-9][\d,]* queries in \d+ s, [\d,]+/s")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait() == 130
        queries = int(re.findall(r"(\d+) queries executed", out)[0])
        assert queries > 0
        report = json.loads(Path("report.json").read_text())
        assert report["result"]["total num queries"] == queries
        assert os.read(terminal, 1 << 16).decode().endswith("\r\x1b[K")  # nothing is left there


class Stuck(BenchRunner):
    """After three queries, one never ends; Ctrl+C is pressed when it has begun, and again."""

    async def run(self) -> BenchReport:
        self._plan.begin()
        self._stage = Stage.WARMING_UP
        recording = self._plan.recording()
        for _ in range(3):
            recording.record(recording.start, recording.start + 1000)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    def stop(self) -> None:
        super().stop()
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_twice_does_not_wait_for_the_queries_in_flight(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarking, "BenchRunner", Stuck)
    assert main(["model.onnx"]) == 130
    assert "3 queries executed" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_the_first_query_reports_nothing(
    enf: str, here: Path, broker: Daemon
) -> None:
    with started(enf, "--warm-up", "1000000000") as (process, terminal):
        until(terminal, "warming up")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait() == 130
    assert "0 (available)" in broker.furiosactl("list").stdout


def test_a_reader_that_left_is_status_141(enf: str, here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, enf], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_verbose_names_the_stages(enf: str, here: Path) -> None:
    done = subprocess.run([*COMMAND, enf, "-v"], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("furiosa-bench: reading or compiling the model\n")
    assert "\x1b" not in done.stderr


def test_the_help_needs_no_runtime() -> None:
    code = """
import sys
from furiosa.cli.furiosa_bench import main
assert main(["--help"]) == 0
heavy = {"numpy", "onnx", "onnxruntime", "asyncio", "furiosa.runtime"} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
