"""Where the next compilation is logged. Deprecated, as upstream. Source: runtime reference 8 and 9."""

import os
from pathlib import Path

from furiosa.runtime._compile_log import new_path
from furiosa.runtime._deprecated import warn_of_module

__all__ = ["generate_compiler_log_path"]

warn_of_module(__name__)


def generate_compiler_log_path() -> Path:
    """A path of a file that is not there, in a folder that may not be there either."""
    return new_path(os.environ)
