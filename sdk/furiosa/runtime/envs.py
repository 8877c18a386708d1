"""What the environment says to the runtime, as it is now. Deprecated, as upstream.

Source: runtime reference 8 and 9.
"""

import os

from furiosa.runtime import _environment
from furiosa.runtime._deprecated import warn_of_module

__all__ = [
    "current_npu_device",
    "is_compile_log_enabled",
    "log_dir",
    "profiler_output",
    "xdg_state_home",
]

warn_of_module(__name__)


def current_npu_device() -> str:
    """The device of a session that is told none: FURIOSA_DEVICES, NPU_DEVNAME, else "npu0pe0-1"."""
    return _environment.legacy_device(os.environ)


def is_compile_log_enabled() -> bool:
    """Whether what the compiler reports is kept in files: unless FURIOSA_TEST_IS_RUNNING is set."""
    return _environment.is_compile_log_enabled(os.environ)


def log_dir() -> str:
    """Where these files are: FURIOSA_LOG_DIR, else `logs` in `xdg_state_home`."""
    return _environment.log_dir(os.environ)


def xdg_state_home() -> str:
    """XDG_STATE_HOME as it is, else ~/.local/state/furiosa."""
    return _environment.state_home(os.environ)


def profiler_output() -> str | None:
    """FURIOSA_PROFILER_OUTPUT_PATH, else NUX_PROFILER_PATH, else None."""
    return _environment.profiler_output(os.environ)[0]
