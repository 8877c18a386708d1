"""Build hook: what is distributed knows its commit and when that was made.

Only text of furiosa/common/build.py changes, and only in the archive. An editable install and a tree without
git keep what the file says. The commit's time, not that of the build: the same commit gives the same archive.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STAMPED = "furiosa/common/build.py"


class Stamp(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        found = None if version == "editable" else commit(self.root)
        if found is None:
            return
        source = Path(self.root, "sdk", STAMPED)
        handle, stamped = tempfile.mkstemp(suffix=".py")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(stamp(source.read_text(encoding="utf-8"), *found))
        os.chmod(stamped, source.stat().st_mode)
        self.stamped = stamped
        target = STAMPED if self.target_name == "wheel" else f"sdk/{STAMPED}"
        build_data["force_include"][stamped] = target

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "stamped"):
            os.unlink(self.stamped)


def commit(root: str) -> tuple[str, str] | None:
    """Hash and time of the tree's commit; None where there is no git to ask."""
    command = ["git", "-C", root, "log", "-1", "--format=%H %cd", "--date=format-local:%FT%TZ"]
    try:
        said = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TZ": "UTC", "GIT_CEILING_DIRECTORIES": str(Path(root).parent)},
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    revision, _, time = said.strip().partition(" ")
    return revision, time


def stamp(text: str, revision: str, time: str) -> str:
    """Raises: ValueError when the text is not the one to stamp."""
    for old, new in (('"0" * 40', f'"{revision}"'), ('"1970-01-01T00:00:00Z"', f'"{time}"')):
        if text.count(old) != 1:
            raise ValueError(f"expected {old} once in {STAMPED}")
        text = text.replace(old, new)
    return text
