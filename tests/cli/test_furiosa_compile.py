"""`furiosa compile`: its own options, texts and exit status. The rest is that of `furiosa-compiler`."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.cli import furiosa_compiler
from furiosa.cli.furiosa_compile import main
from furiosa.enf import read
from support import models
from support.tflite_models import Net


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FC_CACHE_ENABLED", "0")
    model = models.quantized(models.residual_cnn())
    Path("model.onnx").write_bytes(model.SerializeToString())
    return "model.onnx"


def test_the_first_and_the_last_line(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([source]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert re.fullmatch(
        r"furiosa-compiler \d+\.\d+\.\d+ \(rev\. [0-9a-f]{9}\), "
        r"furiosa-tools \d+\.\d+\.\d+ \(rev\. [0-9a-f]{9}\)",
        first,
    )
    assert last == "The output has been saved to output.enf"
    assert read(Path("output.enf").read_bytes()).target == "warboy-2pe"


def test_options_reach_the_compiler(source: str) -> None:
    assert main([source, "-o", "a.enf", "--batch-size", "2", "--target-npu", "warboy"]) == 0
    program = read(Path("a.enf").read_bytes())
    assert (program.target, program.batch) == ("warboy", 2)
    assert main([source, "--target-ir", "cdfg"]) == 0
    assert Path("output.cdfg").read_text().startswith("cdfg net ")


def test_the_batch_size_is_chosen(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([source, "--auto-batch-size"]) == 0
    batch = read(Path("output.enf").read_bytes()).batch
    assert f"The batch size is {batch}\n" in capsys.readouterr().err
    assert batch > 1
    assert batch & (batch - 1) == 0


def test_options_without_effect_are_accepted(source: str) -> None:
    assert main([source, "-o", "a.enf"]) == 0
    assert main([source, "-o", "b.enf", "--split-after-lower"]) == 0
    assert Path("a.enf").read_bytes() == Path("b.enf").read_bytes()


@pytest.mark.parametrize("option", ["-ga", "--genetic-optimization"])
def test_genetic_parameters_are_read(option: str, source: str) -> None:
    assert main([source, option, "population_size=3,generation_limit=2,init_tactic=random"]) == 0
    assert Path("output.enf").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: source"),
        (["model.onnx", "--no-such"], "unrecognized arguments: --no-such"),
        (["model.onnx", "--batch-size", "two"], "argument --batch-size: invalid int value: 'two'"),
        (["none.onnx"], "none.onnx does not exist"),
        (["model.onnx", "--target-ir", "ldfg"], "invalid target ir 'ldfg'"),
        (["model.onnx", "--target-npu", "x"], "invalid NPU id 'x': choose from warboy, warboy-2pe"),
        (
            ["model.onnx", "--batch-size", "2", "--auto-batch-size"],
            "--batch-size and --auto-batch-size exclude each other",
        ),
        (
            ["model.onnx", "-ga", "population_size=many"],
            "genetic optimization: 'population_size': expected an int from 1 to 1099511627776, found 'many'",
        ),
    ],
)
def test_every_error_is_one_line_and_255(
    arguments: list[str], message: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 255
    assert capsys.readouterr().err.splitlines()[-1] == f"ERROR: {message}"


def test_r42_r43_the_install_check_prints_two_lines() -> None:
    command = [sys.executable, "-m", "furiosa.cli.furiosa_main", "compile", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(
        r"libnpu\.so --- v\d+\.\d+, built @ [0-9a-f]{7}\n"
        r"\d+\.\d+\.\d+ \(rev: [0-9a-f]{9} built at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)"
        r" \(wrapper: \d+\.\d+\.\d+\)\n",
        done.stdout,
    )
    assert done.stderr == ""


def test_the_description_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--description"]) == 0
    assert re.fullmatch(
        r"FuriosaAI SDK Compiler \(ver\. \d+\.\d+\.\d+\)\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_r44_both_kinds_of_model_become_a_program(kind: str, source: str) -> None:
    if kind == "tflite":
        net = Net()
        net.node("RELU", [net.tensor((1, 4, 4, 3))], net.tensor((1, 4, 4, 3)))
        Path("model.tflite").write_bytes(net.model([0], [1]))
    command = [sys.executable, "-m", "furiosa.cli.furiosa_main", "compile", f"model.{kind}"]
    subprocess.run(command, check=True, capture_output=True)
    assert read(Path("output.enf").read_bytes()).target == "warboy-2pe"


def test_r45_its_options_are_those_of_the_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    assert furiosa_compiler.main(["--help"]) == 0
    theirs = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert main(["--help"]) == 0
    ours = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert theirs - {"--no-cache"} <= ours  # FC_CACHE_ENABLED=0 does that for both


def test_the_log_level_decides_what_is_shown(
    source: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_to_all = tmp_path / "cache"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("FC_CACHE_ENABLED", "1")
    monkeypatch.setenv("FC_CACHE_STORE_URL", str(open_to_all))
    shown = {}
    for level in ("", "error", "OFF", "warn", "DEBUG"):
        monkeypatch.setenv("FURIOSA_LOG_LEVEL", level)
        assert main([source]) == 0
        err = capsys.readouterr().err
        shown[level] = ("WARNING: the compiler cache is not used" in err, "split took" in err)
    assert shown == {
        "": (True, False),
        "error": (False, False),
        "OFF": (False, False),
        "warn": (True, False),
        "DEBUG": (True, True),
    }
    assert logging.getLogger("furiosa").level == logging.NOTSET
    monkeypatch.setenv("FURIOSA_LOG_LEVEL", "LOUD")
    assert main([source]) == 255
    assert capsys.readouterr().err.splitlines()[-1] == (
        "ERROR: FURIOSA_LOG_LEVEL: expected one of OFF, ERROR, WARN, INFO, CRITICAL, WARNING, DEBUG, found "
        "'LOUD'"
    )
