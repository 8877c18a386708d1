"""Progress of a compilation, as events and as the published lines. Source: compiler reference 3.2."""

import contextlib
from typing import Protocol, TextIO

import numpy as np


class Progress(Protocol):
    """Indices count from 1; times are in seconds."""

    def stage_started(self, index: int, total: int, source: str, target: str) -> None: ...
    def step_done(self, index: int, total: int, name: str, seconds: float) -> None: ...
    def stage_done(self, seconds: float) -> None: ...
    def finished(self, seconds: float) -> None: ...


class SilentProgress:
    def stage_started(self, index: int, total: int, source: str, target: str) -> None: ...
    def step_done(self, index: int, total: int, name: str, seconds: float) -> None: ...
    def stage_done(self, seconds: float) -> None: ...
    def finished(self, seconds: float) -> None: ...


def seconds_text(seconds: float) -> str:
    """The shortest plain decimal that reads back as the same float32, e.g. `0.0038304s`."""
    return np.format_float_positional(np.float32(seconds), unique=True, trim="-") + "s"


class PrintProgress:
    """Writes the lines to `stream`, each as soon as it is known."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage_started(self, index: int, total: int, source: str, target: str) -> None:
        self._line(f"[{index}/{total}] 🔍   Compiling from {source} to {target}")

    def step_done(self, index: int, total: int, name: str, seconds: float) -> None:
        self._line(f"▪▪▪▪▪ [{index}/{total}] {name}...Done in {seconds_text(seconds)}")

    def stage_done(self, seconds: float) -> None:
        self._line(f"Done in {seconds_text(seconds)}")

    def finished(self, seconds: float) -> None:
        self._line(f"✨  Finished in {seconds_text(seconds)}")

    def _line(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody listening is no reason to fail
            self._stream.write(text + "\n")
            self._stream.flush()
