"""What the environment says to the runtime. Source: runtime reference 8 (names), 9 (variables)."""

import logging
import os
from collections.abc import Mapping
from typing import Final

from furiosa.common.log_levels import LEVELS
from furiosa.runtime._core.selection import device_text

LOG_LEVEL: Final = "FURIOSA_LOG_LEVEL"
LOG_DIR: Final = "FURIOSA_LOG_DIR"
STATE_HOME: Final = "XDG_STATE_HOME"
TEST_IS_RUNNING: Final = "FURIOSA_TEST_IS_RUNNING"
PROFILER_OUTPUT: Final = "FURIOSA_PROFILER_OUTPUT_PATH"
OLD_PROFILER_OUTPUT: Final = "NUX_PROFILER_PATH"
LEGACY_DEVICE: Final = "npu0pe0-1"


def log_level(environ: Mapping[str, str]) -> tuple[int | None, str | None]:
    """What FURIOSA_LOG_LEVEL asks for, None without it; and what is wrong with it, if anything."""
    text = environ.get(LOG_LEVEL)
    if not text:
        return None, None
    level = LEVELS.get(text.upper())
    if level is None:
        wrong = f"{LOG_LEVEL}: expected one of INFO, WARN, ERROR, OFF; found {text!r}; INFO is used"
        return logging.INFO, wrong
    return level, None


def profiler_output(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Where a trace of the whole process goes, None: nowhere; and the variable that says so."""
    for variable in (PROFILER_OUTPUT, OLD_PROFILER_OUTPUT):
        if environ.get(variable):
            return environ[variable], variable
    return None, None


def legacy_device(environ: Mapping[str, str]) -> str:
    """What the legacy API takes when it is not told.

    Two statements of the reference meet here, "NPU_DEVNAME, then npu0pe0-1" and "FURIOSA_DEVICES beats
    NPU_DEVNAME": FURIOSA_DEVICES comes first.
    """
    text, source = device_text(None, environ)
    return LEGACY_DEVICE if source == "default" else text


def state_home(environ: Mapping[str, str]) -> str:
    """XDG_STATE_HOME as it is, else a folder of our own in its default place."""
    return environ.get(STATE_HOME) or os.path.expanduser("~/.local/state/furiosa")


def log_dir(environ: Mapping[str, str]) -> str:
    return environ.get(LOG_DIR) or f"{state_home(environ)}/logs"


def is_compile_log_enabled(environ: Mapping[str, str]) -> bool:
    return TEST_IS_RUNNING not in environ
