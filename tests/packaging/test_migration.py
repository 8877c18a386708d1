"""The page for those who come from furiosa-sdk 0.10 names what is there."""

import importlib
import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration.md"
MODULES = {  # heading: where its names are
    "furiosa.runtime and furiosa.runtime.sync": ["furiosa.runtime"],
    "furiosa.runtime.profiler": ["furiosa.runtime.profiler"],
    "furiosa.runtime.errors": ["furiosa.runtime.errors"],
    "furiosa.runtime.session": ["furiosa.runtime.session"],
    "furiosa.runtime.tensor, .model, .envs, .compiler, .consts, .bench": ["furiosa.runtime"],
    "furiosa.device and furiosa.device.sync": ["furiosa.device"],
}
ABSENT = {module for modules in MODULES.values() for module in modules if find_spec(module) is None}
ROW = re.compile(r"^\| `([\w.]+)`[^|]*\| (\w+) \|", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Module, dotted name, status."""
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for module in MODULES.get(heading, []):
            found += [(module, name, status) for name, status in ROW.findall(body)]
    return found


def resolved(module: str, name: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        value: object = importlib.import_module(module)
        for part in name.split("."):
            if isinstance(value, ModuleType) and not hasattr(value, part):
                value = importlib.import_module(f"{value.__name__}.{part}")
            else:
                value = getattr(value, part)
    return value


@pytest.mark.parametrize(("module", "name", "status"), rows())
def test_what_the_page_names_is_there_unless_it_says_never(
    module: str, name: str, status: str
) -> None:
    if module in ABSENT:
        pytest.skip(f"{module} is not installed")
    if status == "never":
        with pytest.raises(AttributeError):
            resolved(module, name)
    else:
        resolved(module, name)


def test_every_section_of_names_is_read() -> None:
    assert {module for module, _, _ in rows()} == {m for ms in MODULES.values() for m in ms}
