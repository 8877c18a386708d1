"""The archives that pip installs."""

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

ROOT = Path(__file__).resolve().parents[2]
COMMIT = ["git", "-C", str(ROOT), "log", "-1", "--format=%H"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of this repository, which is the current folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree has no history to build from")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "tree")], check=True)
    monkeypatch.chdir(tmp_path / "tree")
    return tmp_path


def text_of_build(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("furiosa/common/build.py").decode()


def test_a_wheel_knows_its_commit_and_has_all_four_roots(tree: Path) -> None:
    wheel = tree / build_wheel(str(tree))
    revision = subprocess.run(COMMIT, capture_output=True, text=True, check=True).stdout.strip()
    assert f'BUILD_HASH: Final = "{revision}"' in text_of_build(wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for module in ("broker/daemon.py", "runtime/sync.py", "cli/furiosactl.py", "proto/__init__.py"):
        assert f"furiosa/{module}" in names
    assert "furiosa/__init__.py" not in names


def test_a_wheel_has_manual_pages_and_completion_where_shells_look(tree: Path) -> None:
    with zipfile.ZipFile(tree / build_wheel(str(tree))) as archive:
        shared = {name.partition(".data/data/")[2] for name in archive.namelist()}
    assert {
        "share/man/man1/furiosactl.1",
        "share/man/man8/furiosa-brokerd.8",
        "share/bash-completion/completions/furiosactl",
        "share/zsh/site-functions/_furiosactl",
        "share/fish/vendor_completions.d/furiosactl.fish",
    } <= shared


def test_a_wheel_made_from_the_sdist_without_git_knows_the_same(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = text_of_build(tree / build_wheel(str(tree)))
    assert '"0" * 40' not in direct
    sdist = build_sdist(str(tree))
    with tarfile.open(tree / sdist) as archive:
        archive.extractall(tree / "unpacked", filter="data")
    (unpacked,) = (tree / "unpacked").iterdir()
    monkeypatch.chdir(unpacked)
    (tree / "again").mkdir()
    wheel = tree / "again" / build_wheel(os.fspath(tree / "again"))
    assert text_of_build(wheel) == direct
