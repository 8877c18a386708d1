"""Text goldens: input above, expected below, in one file."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "compiler" / "golden"
RULE = "=" * 8 + " becomes " + "=" * 8


def check(name: str, before: str, after: str) -> None:
    """Compare with tests/compiler/golden/<name>.txt; FURIOSA_UPDATE_GOLDENS=1 writes it instead."""
    same(FOLDER / f"{name}.txt", f"{before}{RULE}\n{after}")


def same(path: Path, text: str) -> None:
    """As what is in the file; FURIOSA_UPDATE_GOLDENS=1 writes it instead."""
    if os.environ.get("FURIOSA_UPDATE_GOLDENS") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
