"""From arguments to output."""

from __future__ import annotations

import os

from furiosa.cli.quick import handoff, messages
from furiosa.cli.quick.address import path_of
from furiosa.cli.render.table import draw
from furiosa.cli.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from furiosa.cli.tables.report import Report

_METHODS: Final[Mapping[tuple[str, ...], str]] = {
    ("info",): "Devices/List",
    ("info", "--full"): "Devices/List",
    ("list",): "Devices/List",
    ("ps",): "Devices/Processes",
}


def run(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int | None:
    """The exit status; None: nothing was done, the whole command line is needed."""
    command = tuple(arguments)
    method = _METHODS.get(command)
    path = None if method is None else path_of(environ)
    if method is None or path is None:
        return None
    answer = handoff.ask(path, method)
    if answer is None:
        return None
    origin, response = answer
    try:
        report = _report(command, response)
    except (ValueError, KeyError, IndexError):  # of a broker that is newer than this
        return None
    terminal = Terminal.standard()
    if origin == messages.EMULATED:
        terminal.say("furiosactl: these cards are emulated")
    try:
        terminal.out.write(draw(report.table, bold=terminal.is_screen))
        terminal.out.flush()
    except OSError as exc:
        terminal.finish()
        if isinstance(exc, BrokenPipeError) or not terminal.is_heard:
            return 141
        terminal.say(f"furiosactl: {exc}")
        return 1
    for note in report.notes:
        terminal.say(f"furiosactl: {note}")
    return 0


def _report(command: tuple[str, ...], response: bytes) -> Report:
    """Views and messages have the same attributes."""
    if command[0] == "ps":
        from furiosa.cli.tables import ps

        return ps.report(messages.processes(response))  # type: ignore[arg-type]
    devices = messages.devices(response)
    if command[0] == "list":
        from furiosa.cli.tables import list_

        return list_.report(devices)  # type: ignore[arg-type]
    from furiosa.cli.tables import info

    return info.report(devices, full="--full" in command)  # type: ignore[arg-type]
