"""The states of a lease in the docs are those of the broker's table."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "lease_states.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Path]:
    """The script and the page in a tree of their own."""
    script, page = tmp_path / "scripts" / SCRIPT.name, tmp_path / "docs" / "leases.md"
    for path in (script, page):
        path.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    page.write_text((ROOT / "docs" / "leases.md").read_text())
    return script, page


def test_the_page_is_fresh() -> None:
    done = run(SCRIPT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_page_is_found_and_made_fresh(copy: tuple[Path, Path]) -> None:
    script, page = copy
    fresh = page.read_text()
    page.write_text(fresh.replace("granted --> expiring: time to live over", "granted --> gone"))
    assert run(script, "--check").returncode == 1
    assert run(script).returncode == 0
    assert page.read_text() == fresh


def test_a_page_without_the_section_gets_it_at_its_end(copy: tuple[Path, Path]) -> None:
    script, page = copy
    page.write_text("# Leases\n")
    assert run(script, "--check").returncode == 1
    assert run(script).returncode == 0
    assert page.read_text().startswith("# Leases\n\n<!-- lease states")
    assert run(script, "--check").returncode == 0
