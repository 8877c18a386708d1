"""share/: manual pages and completion that are those of the parsers, tried in the shells they are for."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARE = ROOT / "share"
SCRIPT = ROOT / "scripts" / "command_files.py"
PAGES = sorted((SHARE / "man").rglob("*.[18]"), key=lambda path: path.name)
COMMANDS = sorted(path.stem for path in PAGES)

# what is typed, and what must be offered for its last word
OFFERED = (
    (("furiosactl", "le"), {"leases"}),
    (("furiosactl", "config", ""), {"check"}),
    (("furiosactl", "info", "--fu"), {"--full"}),
    (("furiosactl", "list", "--format", ""), {"json", "yaml"}),
    (("furiosa", "be"), {"bench"}),
    (("furiosa", "bench", "--workl"), {"--workload"}),
    (("furiosa-bench", "--workload", ""), {"L", "T", "latency", "throughput"}),
    (("furiosa-compiler", "--target-npu", ""), {"warboy", "warboy-2pe"}),
    (("furiosa-compile", "--auto"), {"--auto-batch-size"}),
    (("furiosa-brokerd", "--placem"), {"--placement"}),
)
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _id(item: tuple[str, ...] | set[str]) -> str:
    return " ".join(sorted(item) if isinstance(item, set) else item)


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no {tool} on this machine")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_they_are_fresh() -> None:
    done = run(sys.executable, SCRIPT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_stale_missing_or_left_over_is_found_and_made_fresh(tmp_path: Path) -> None:
    script = tmp_path / "scripts" / SCRIPT.name
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    share = Path(shutil.copytree(SHARE, tmp_path / "share"))
    page, other = share / "man" / "man1" / "furiosa.1", share / "man" / "man1" / "furiosactl.1"
    page.write_text(page.read_text() + "more\n")
    other.unlink()
    (share / "left-over").touch()
    done = run(sys.executable, script, "--check")
    assert done.returncode == 1
    assert [line.rpartition(": share/")[2] for line in done.stderr.splitlines()] == [
        "left-over",
        "man/man1/furiosa.1",
        "man/man1/furiosactl.1",
    ]
    assert run(sys.executable, script).returncode == 0
    assert run(sys.executable, script, "--check").returncode == 0
    assert other.read_text() == (SHARE / "man" / "man1" / "furiosactl.1").read_text()
    assert not (share / "left-over").exists()


def test_every_command_has_all_four() -> None:
    assert {"furiosa", "furiosactl", "furiosa-bench", "furiosa-brokerd"} <= set(COMMANDS)
    for command in COMMANDS:
        assert (SHARE / "bash-completion" / "completions" / command).is_file()
        assert (SHARE / "zsh" / "site-functions" / f"_{command}").is_file()
        assert (SHARE / "fish" / "vendor_completions.d" / f"{command}.fish").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
@needs("man")
def test_man_has_nothing_to_complain_about(page: Path) -> None:
    done = run("man", "--warnings", "-l", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{page.stem} - " in done.stdout.replace("\u2010", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
@needs("mandoc")
def test_mandoc_has_nothing_to_complain_about(page: Path) -> None:
    said = run("mandoc", "-T", "lint", "-W", "warning", page).stdout.splitlines()
    assert [line for line in said if "missing date" not in line] == []  # it has none, to stay fresh


@pytest.mark.parametrize(("words", "expected"), OFFERED, ids=_id)
@needs("bash")
def test_bash_offers(words: Sequence[str], expected: set[str]) -> None:
    file = SHARE / "bash-completion" / "completions" / words[0]
    done = run("bash", "--norc", "-c", BASH, "bash", file, *words)
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(("words", "expected"), OFFERED, ids=_id)
@needs("fish")
def test_fish_offers(words: Sequence[str], expected: set[str], tmp_path: Path) -> None:
    file = SHARE / "fish" / "vendor_completions.d" / f"{words[0]}.fish"
    script = f"source {file}; complete -C '{' '.join(words)}'"
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [(words, expected) for words, expected in OFFERED if len(expected) == 1],
    ids=lambda item: " ".join(item),
)
@needs("zsh")
def test_zsh_completes(words: Sequence[str], expected: set[str], tmp_path: Path) -> None:
    (word,) = expected
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "PS1": "", "ZDOTDIR": str(tmp_path)},
    )
    os.close(theirs)
    try:
        functions = SHARE / "zsh" / "site-functions"
        setup = f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D; echo RE''ADY"
        os.write(ours, f"{setup}\n".encode())
        _until(ours, "READY")
        os.write(ours, f"{' '.join(words)}\t".encode())
        _until(ours, word)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def _until(terminal: int, text: str) -> None:
    """Reads until the text is there; the time limit of tests is its end."""
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 1 << 12).decode(errors="replace")
