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
    assert {"furiosa", "furiosa-bench", "furiosa-compile", "furiosa-compiler"} <= scripts.keys()
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_r38_what_is_installed_is_a_sub_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, "furiosa-compile")
    install(folder, "furiosa-litmus", mode=0o644)
    (folder / "furiosa-server").mkdir()
    assert main([]) == ExitCode.OK
    help = capsys.readouterr().out
    assert re.search(r"^FuriosaAI SDK CLI \(ver\. \d+\.\d+\.\d+\)$", help, re.MULTILINE)
    assert "{compile}" in help
    assert "sub-command help" in help
    assert "FuriosaAI SDK Compiler for DNN models" in help
    assert "litmus" not in help
    assert "server" not in help


def test_programs_of_others_are_sub_commands_after_ours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = install(folder, "furiosa-acme-pack")
    for name in ("furiosa-litmus", "furiosa-bench", "furiosa-server", "furiosa-compile"):
        install(folder, name)
    install(folder, "furiosa-")
    install(folder, "furiosactl")
    assert main(["--help"]) == ExitCode.OK
    help = capsys.readouterr().out
    assert "{compile,server,litmus,bench,acme-pack}" in help
    # where they are; to ask what they are would be to run them
    assert f"acme-pack{pack}" in "".join(help.split())
    seen: list[tuple[object, ...]] = []
    main(["acme-pack", "x"], execute=lambda *call: seen.append(call))
    assert seen == [(pack, [pack, "x"])]


@pytest.mark.parametrize("name", ["", "-x", "a/b", "../compile"])
def test_a_name_that_is_none_runs_nothing(name: str, folder: Path) -> None:
    (folder / "furiosa-a").mkdir()
    install(folder / "furiosa-a", "b")
    seen: list[tuple[object, ...]] = []
    assert main([name], execute=lambda *call: seen.append(call)) == 2
    assert seen == []


def extend(folder: Path, code: str, target: str = "acme_pack:main") -> dict[str, str]:
    """Install a package that has a sub-command, and give the environment in which it is."""
    info = folder / "acme_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-pack\nVersion: 1.0\nSummary: Packs 100 % of models\n"
    )
    (info / "entry_points.txt").write_text(f"[furiosa.commands]\npack = {target}\n")
    (folder / "acme_pack.py").write_text(code)
    return {**os.environ, "PYTHONPATH": str(folder)}


def furiosa(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [PYTHON, "-m", "furiosa.cli.furiosa_main", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_r39_an_extension_package_adds_a_sub_command(tmp_path: Path) -> None:
    code = "import sys\ndef main(argv):\n    print(argv, sys.argv)\n    return 5\n"
    env = extend(tmp_path, code)
    done = furiosa(env, "pack", "--help", "-x")
    assert done.stdout == "['--help', '-x'] ['furiosa pack', '--help', '-x']\n"
    assert (done.returncode, done.stderr) == (5, "")
    help = furiosa(env, "--help").stdout
    assert re.search(r"^ +pack +Packs 100 % of models$", help, re.MULTILINE)
    assert furiosa({**env, "PYTHONPATH": ""}, "pack").returncode == 2


@pytest.mark.parametrize(
    ("code", "status", "err"),
    [
        ("def main(argv): pass", 0, ""),
        ("import sys\ndef main(argv): sys.exit(7)", 7, ""),
        ("def main(argv): raise KeyboardInterrupt", 130, ""),
        ("def main(argv): raise BrokenPipeError", 141, ""),
        (
            "import no_such",
            1,
            (
                "furiosa: pack: cannot load acme_pack:main of acme-pack:"
                " ModuleNotFoundError(\"No module named 'no_such'\")\n"
            ),
        ),
    ],
)
def test_how_an_extension_ends_is_how_it_all_ends(
    code: str, status: int, err: str, tmp_path: Path
) -> None:
    done = furiosa(extend(tmp_path, code), "pack")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", err)


def test_what_is_installed_with_the_sdk_wins_and_path_comes_last(tmp_path: Path) -> None:
    env = extend(tmp_path, "def main(argv): print('extension')")
    names = tmp_path / "acme_pack-1.0.dist-info" / "entry_points.txt"
    names.write_text(names.read_text() + "compile = acme_pack:main\n")
    env["PATH"] = str(tmp_path)
    install(tmp_path, "furiosa-pack", "echo path")
    install(tmp_path, "furiosa-compile", "echo path")
    assert furiosa(env, "pack").stdout == "extension\n"
    assert "FuriosaAI SDK Compiler" in furiosa(env, "compile", "--description").stdout


def test_what_is_installed_needs_no_look_at_other_packages() -> None:
    code = """
import sys
from furiosa.cli.furiosa_main import main
main(["compile"], execute=lambda path, argv: None)
main(["--version"])
slow = {"importlib.metadata", "furiosa.cli.compile_command_line", "numpy"} & sys.modules.keys()
assert not slow, slow
"""
    subprocess.run([PYTHON, "-c", code], check=True, stdout=subprocess.DEVNULL)


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
    install(folder, "furiosa-acme", 'echo "out $1 $WORD"; echo err >&2; exit 7')
    monkeypatch.setenv("WORD", "word")
    process = run("acme", "--help")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (7, "out --help word\n", "err\n")


def test_ctrl_c_is_the_commands_own(folder: Path) -> None:
    install(folder, "furiosa-acme", "trap 'echo caught; exit 9' INT; echo ready; read -r never")
    read, write = os.pipe()
    command = [PYTHON, "-m", "furiosa.cli.furiosa_main", "acme"]
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
