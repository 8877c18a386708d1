"""Fill in the tests of docs/requirements.md; `--check` only compares.

A test belongs to requirement N when its name has `rN` between underscores: test_r8_r9_info_shows_every_card.
The other columns of the page are written by hand.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "requirements.md"
_ROW: Final = re.compile(r"\| R(\d+) \|(.*)\|[^|\n]*\|$", re.MULTILINE)
_TEST: Final = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_NUMBER: Final = re.compile(r"_r(\d+)(?=_|$)")


def tests() -> Mapping[int, list[str]]:
    """Names like cli/test_table.py::test_r15_tables_are_boxes by number, in order."""
    found: dict[int, list[str]] = {}
    folder = ROOT / "tests"
    for path in sorted(folder.rglob("test_*.py")):
        for name in _TEST.findall(path.read_text(encoding="utf-8")):
            for number in _NUMBER.findall(name):
                found.setdefault(int(number), []).append(f"{path.relative_to(folder)}::{name}")
    return found


def filled(page: str) -> str:
    """The page with the tests of each row."""
    named = tests()

    def row(match: re.Match[str]) -> str:
        cell = "<br>".join(f"`{name}`" for name in named.get(int(match[1]), ["none"]))
        return f"| R{match[1]} |{match[2]}| {cell} |"

    return _ROW.sub(row, page)


def untested(page: str) -> Iterator[str]:
    """Numbers of rows without a test."""
    known = tests()
    return (f"R{match[1]}" for match in _ROW.finditer(page) if int(match[1]) not in known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when stale")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    fresh = filled(page)
    if missing := ", ".join(untested(page)):
        print(f"without a test: {missing}", file=sys.stderr)
    if fresh != page and check:
        print(f"stale, run scripts/requirements.py: {PAGE.name}", file=sys.stderr)
    elif fresh != page:
        PAGE.write_text(fresh, encoding="utf-8")
    return 1 if check and (missing or fresh != page) else 0


if __name__ == "__main__":
    sys.exit(main())
