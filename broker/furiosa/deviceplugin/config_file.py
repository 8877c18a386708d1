"""The file of settings, read again when it changes: what is wrong with it changes nothing but the log."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

import yaml

from furiosa.deviceplugin.settings import (
    BadSettings,
    Settings,
    from_mapping,
    needs_restart,
    taken_over,
)

log = logging.getLogger(__name__)

# a mounted ConfigMap is changed by a link that points elsewhere, which no watch on the file itself sees
LOOK_SECONDS: Final = 1.0
MOST_BYTES: Final = 1024**2


def read(path: Path) -> Settings:
    """Raises: BadSettings."""
    return _parsed(path, _text(path))


async def changes(path: Path, settings: Settings) -> AsyncGenerator[Settings, None]:
    """The settings in force after each change; `settings` are those that are now. What takes a restart
    stays, and is logged.
    """
    seen, refused = "", ""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            text = await asyncio.to_thread(_text, path)
            if text == seen:
                continue
            seen = text
            found = _parsed(path, text)
            late = needs_restart(settings, found)
            found = _taken_over(path, settings, found, late)
        except BadSettings as exc:
            if str(exc) != refused:
                refused = str(exc)
                log.error("the settings stay as they are: %s", exc)
            continue
        refused = ""
        if late:
            log.warning("%s: to change %s takes a restart", path, ", ".join(late))
        if found != settings:
            log.info("settings changed: %s", found.told)
            settings = found
            yield settings


def _taken_over(path: Path, before: Settings, after: Settings, late: Sequence[str]) -> Settings:
    """Raises: BadSettings, when the file is right only with keys that take a restart."""
    try:
        return taken_over(before, after)
    except BadSettings as exc:
        raise BadSettings(
            f"{path}: to change {', '.join(late)} takes a restart; until then {exc}"
        ) from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BadSettings(f"{path} cannot be read: {exc.strerror}") from None
    if len(data) > MOST_BYTES:
        raise BadSettings(f"{path} has more than {MOST_BYTES} bytes")
    return data.decode(errors="replace")


def _parsed(path: Path, text: str) -> Settings:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, IndexError) as exc:  # of 2024-02-30 it is no YAMLError
        raise BadSettings(f"{path} is no YAML: {exc}") from None
    except RecursionError:
        raise BadSettings(f"{path} is no YAML: nested too deep") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise BadSettings(f"{path} is a {type(values).__name__}, expected keys and values")
    try:
        return from_mapping(values)
    except BadSettings as exc:
        raise BadSettings(f"{path}: {exc}") from None
