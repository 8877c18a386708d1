"""The conformance pages say which tests cover what: those are there, and nothing public is left out."""

import enum
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from support.deprecated import NAMES, quietly

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.glob("conformance-*.md"))
STATUSES: Final = ("same", "more", "differs", "older", "never")
# page: module to the prefix of its names there
MODULES: Final = {
    "conformance-runtime.md": {
        "furiosa.runtime": "",
        "furiosa.runtime.sync": "",
        "furiosa.runtime.bench": "bench.",
        "furiosa.runtime.profiler": "profiler.",
        **{f"furiosa.runtime.{name}": f"{name}." for name in NAMES},
    },
    "conformance-device.md": {
        "furiosa.device": "",
        "furiosa.device.sync": "",
        "furiosa.device.errors": "",
    },
}
Row = tuple[str, str, str]


def rows(page: Path) -> list[Row]:
    """What, status, tests."""
    found: list[Row] = []
    for line in page.read_text().splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if line.startswith("|") and cells[0] != "What" and not line.startswith("|---"):
            assert len(cells) == 3, line
            found.append(cells)
    return found


@cache
def functions_in(file: str) -> frozenset[str]:
    path = ROOT / file
    text = path.read_text() if path.is_file() else ""
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def test_there_is_a_page() -> None:
    assert set(MODULES) <= {page.name for page in PAGES}
    assert all(len(rows(page)) > 20 for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_has_a_status_and_tests_that_are_there(page: Path) -> None:
    for what, status, cell in rows(page):
        word, colon, reason = status.partition(":")
        assert word in STATUSES, what
        assert bool(colon) == bool(reason.strip()), what
        assert colon or word not in ("differs", "never"), f"{what}: why?"
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", cell)
        assert cell.count("`") == 2 * len(named), cell
        assert named or word == "never", f"{what}: no test"
        for file, test in named:
            assert test in functions_in(file), f"{what}: there is no {file}::{test}"


def public(module: str, prefix: str) -> Iterator[str]:
    """Names of the module, and members of its classes that are not somebody else's."""
    space = quietly(module)
    for name in space.__all__:
        yield prefix + name
        value = getattr(space, name)
        if not isinstance(value, type) or (
            issubclass(value, Exception) and prefix + name != "FuriosaRuntimeError"
        ):
            continue
        for kind in value.__mro__:
            if kind.__module__.startswith("furiosa."):
                yield from (f"{prefix}{name}.{each}" for each in members(kind))


def members(kind: type) -> Iterator[str]:
    own = kind.__members__ if issubclass(kind, enum.Enum) else ()
    return (name for name in {**dict.fromkeys(own), **vars(kind)} if not name.startswith("_"))


@pytest.mark.parametrize(
    ("page", "module", "prefix"),
    [(page, *item) for page, modules in MODULES.items() for item in modules.items()],
)
def test_every_public_name_is_on_the_page(page: str, module: str, prefix: str) -> None:
    named = {
        name
        for what, _, _ in rows(DOCS / page)
        for name in re.findall(r"`([A-Za-z_][\w.]*)`", what)
    }
    # the legacy form of a class has what the current one has
    older = {"tensor.Axis", "tensor.DataType", "tensor.TensorDesc"}
    missing = [
        name
        for name in public(module, prefix)
        if name not in named and name.rpartition(".")[0] not in older
    ]
    assert missing == []


def test_what_is_never_there_is_not() -> None:
    for what, status, _ in rows(DOCS / "conformance-runtime.md"):
        if status.startswith("never"):
            for name in re.findall(r"`(\w+)\.(\w+)`", what):
                owner = getattr(importlib.import_module("furiosa.runtime"), name[0])
                assert not hasattr(owner, name[1]), name
