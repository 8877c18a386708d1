"""Folders in which container runtimes look for specifications. Files of others there are not ours to judge.

Two files of a folder that have one device make it unresolvable, so each file has devices of its own. A file
is there whole or not at all: runtimes read whenever they like.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import yaml

from furiosa.cdi.spec import Spec, qualified
from furiosa.common.files import replace_file

FOLDERS: Final = (Path("/etc/cdi"), Path("/var/run/cdi"))  # the later wins
PREFIX: Final = "furiosa.ai-npu"  # what names of our files begin with
MOST_BYTES: Final = 4 * 1024**2


class BadSpec(Exception):
    """A file that is no specification; the text says which and why."""


def write(path: Path, text: str) -> None:
    """Replaces what is there in one step; the folder is made. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def remove(path: Path) -> None:
    """No effect when there is none. Raises: OSError."""
    path.unlink(missing_ok=True)


def present(kind: str, folders: Iterable[Path] = FOLDERS) -> Iterator[tuple[str, Path]]:
    """Devices of `kind`, as people write them, with their files. What cannot be read is left out, as
    runtimes do.
    """
    for folder in folders:
        for path in sorted(folder.glob("*")):
            if path.suffix in (".json", ".yaml", ".yml"):
                with contextlib.suppress(BadSpec):
                    spec = read(path)
                    if spec.get("kind") == kind:
                        for device in spec["devices"]:
                            yield qualified(device["name"], kind), path


def read(path: Path) -> Spec:
    """Raises: BadSpec."""
    try:
        data = path.read_bytes()[: MOST_BYTES + 1]
        found = json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise BadSpec(f"{path}: {exc}") from None
    if not isinstance(found, dict) or not isinstance(found.get("devices"), list):
        raise BadSpec(f"{path}: there is no list of devices")
    if not all(isinstance(each, dict) and "name" in each for each in found["devices"]):
        raise BadSpec(f"{path}: a device has no name")
    return found
