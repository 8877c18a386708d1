"""The command-line tools as they are installed and explained."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {  # of each tool of the original manual page
    "furiosactl": DOCS / "furiosactl.md",
    "furiosa": DOCS / "furiosa.md",
    "furiosa-compile": DOCS / "compiler" / "options.md",
    "furiosa-bench": DOCS / "bench.md",
    "furiosa-litmus": DOCS / "litmus.md",
}


def scripts() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["scripts"])


def test_r1_r38_the_tools_come_with_the_sdk() -> None:
    assert PAGES.keys() <= scripts()


@pytest.mark.parametrize("tool", PAGES)
def test_r2_each_tool_is_explained(tool: str) -> None:
    page = PAGES[tool].read_text()
    command = tool.replace("-", "[ -]")
    assert re.search(rf"^(    \$ |`){command} ", page, re.MULTILINE)  # how it is used
    assert "pip install" in page or "furiosa.md#install" in page


def test_r40_a_machine_without_python_is_set_up_first() -> None:
    page = (DOCS / "furiosa.md").read_text()
    python, install = page.index("apt-get install -y python3"), page.index("pip install --")
    assert page.index("## Install") < python < install


def test_r41_how_to_install_is_said_and_how_that_differs() -> None:
    page = (DOCS / "furiosa.md").read_text()
    assert "pip install --constraint constraints.txt ." in page
    assert "`pip install furiosa-sdk`" in page
    assert "never install both" in page


def test_r4_r5_how_furiosactl_is_installed_and_what_first() -> None:
    page = (DOCS / "furiosactl.md").read_text()
    install = page[page.index("## Install") :].partition("\n## ")[0]
    assert "pip install ." in install
    assert "`furiosa-driver-warboy`" in install
    assert "`sudo apt-get install -y furiosa-toolkit`" in install
