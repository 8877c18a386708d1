"""`furiosa`: which sub-commands there are, and that it becomes them."""

import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosa_main import main

PYTHON = sys.executable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that is on PATH; nothing is beside Python."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    return tmp_path


def install(folder: Path, name: str, script: str = "", mode: int = 0o755) -> str:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(mode)
    return str(path)


def run(*arguments: str) -> subprocess.Popen[str]:
    command = [PYTHON, "-m", "furiosa.cli.furiosa_main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_every_command_of_the_distribution_can_be_imported() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    scripts = project["project"]["scripts"]
    assert {"furiosa", "furiosa-compile", "furiosa-compiler"} <= scripts.keys()
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_what_is_installed_is_a_sub_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, "furiosa-compile")
    install(folder, "furiosa-litmus", mode=0o644)
    install(folder, "furiosa-bench")
    (folder / "furiosa-server").mkdir()
    assert main([]) == ExitCode.OK
    help = capsys.readouterr().out
    assert re.search(r"^FuriosaAI SDK CLI \(ver\. \d+\.\d+\.\d+\)$", help, re.MULTILINE)
    assert "{compile}" in help
    assert "sub-command help" in help
    assert "FuriosaAI SDK Compiler for DNN models" in help
    assert "litmus" not in help
    assert "server" not in help
    assert "bench" not in help


def test_commands_beside_python_need_not_be_on_the_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "elsewhere").mkdir()
    path = install(folder / "elsewhere", "furiosa-litmus")
    seen: list[tuple[object, ...]] = []
    main(["litmus"], execute=lambda *call: seen.append(call))
    assert seen == [(path, [path])]


def test_version_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert re.fullmatch(r"\d+\.\d+\.\d+-(dev|release) \(rev: [0-9a-f]{9}\)\n", out)


@pytest.mark.parametrize("command", ["nonsense", "compile"])
def test_a_command_that_is_not_there_is_wrong_usage(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command]) == 2
    assert f"invalid choice: '{command}'" in capsys.readouterr().err


def test_all_arguments_go_through_untouched(folder: Path) -> None:
    path = install(folder, "furiosa-compile")
    seen: list[tuple[object, ...]] = []
    main(["compile", "--help", "--version", "-x", "a b"], execute=lambda *call: seen.append(call))
    assert seen == [(path, [path, "--help", "--version", "-x", "a b"])]


def test_streams_environment_and_exit_status_are_the_commands_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(folder, "furiosa-litmus", 'echo "out $1 $WORD"; echo err >&2; exit 7')
    monkeypatch.setenv("WORD", "word")
    process = run("litmus", "--help")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (7, "out --help word\n", "err\n")


def test_ctrl_c_is_the_commands_own(folder: Path) -> None:
    install(folder, "furiosa-litmus", "trap 'echo caught; exit 9' INT; echo ready; read -r never")
    read, write = os.pipe()
    command = [PYTHON, "-m", "furiosa.cli.furiosa_main", "litmus"]
    process = subprocess.Popen(command, stdin=read, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("caught\n", 9)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


def test_a_command_that_does_not_start_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "furiosa-compile"
    path.write_text("no script")
    path.chmod(0o755)
    assert main(["compile"]) == ExitCode.FAILURE
    assert capsys.readouterr().err == f"furiosa: {path}: Exec format error\n"
