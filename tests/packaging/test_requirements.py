"""docs/requirements.md: every requirement is there and has tests."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "requirements.md"
SCRIPT = ROOT / "scripts" / "requirements.py"

_spec = importlib.util.spec_from_file_location("requirements_script", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def test_the_page_has_every_requirement_once() -> None:
    numbers = re.findall(r"^\| R(\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 87))


def test_the_page_names_the_tests_that_there_are() -> None:
    page = PAGE.read_text()
    assert script.filled(page) == page


def test_every_requirement_has_a_test() -> None:
    assert list(script.untested(PAGE.read_text())) == []
