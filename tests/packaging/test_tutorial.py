"""The tutorial shows examples that are tested, not copies of them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tutorial_includes_the_quick_starts() -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    included = re.findall(r'^--8<-- "(.*)"$', tutorial, re.MULTILINE)
    assert included == ["examples/quickstart_sync.py", "examples/quickstart_async.py"]


def test_every_example_that_it_names_is_there() -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    named = set(re.findall(r"examples/[a-z_]+\.(?:py|ipynb)", tutorial))
    kept = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.*")}
    assert named == kept - {"examples/digits.py"}
