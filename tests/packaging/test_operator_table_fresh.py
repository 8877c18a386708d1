"""The operators in the docs are those of the compiler's table."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "operator_table.py"
PAGE = ROOT / "docs" / "compiler" / "operators.md"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


def test_the_page_is_fresh() -> None:
    done = run(SCRIPT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_or_missing_page_is_found_and_made_fresh(tmp_path: Path) -> None:
    script, page = tmp_path / "scripts" / SCRIPT.name, tmp_path / "docs" / "compiler" / PAGE.name
    script.parent.mkdir()
    page.parent.mkdir(parents=True)
    script.write_text(SCRIPT.read_text())
    for stale in (None, PAGE.read_text().replace("| Conv |", "| Con |")):
        if stale is not None:
            page.write_text(stale)
        assert run(script, "--check").returncode == 1
        assert run(script).returncode == 0
        assert page.read_text() == PAGE.read_text()
