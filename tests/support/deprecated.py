"""Modules that warn when they are imported, for tests in which warnings are errors."""

import importlib
import sys
import warnings
from types import ModuleType
from typing import Final

NAMES: Final = ("compiler", "consts", "envs", "errors", "model", "session", "tensor")


def quietly(module: str) -> ModuleType:
    """Without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return importlib.import_module(module)


def anew(name: str) -> ModuleType:
    """The same, executed again, with its warning; the one that others have stays."""
    full = f"furiosa.runtime.{name}"
    before = sys.modules.pop(full, None)
    try:
        __import__(full)  # as the statement does, whose line a warning names
        return sys.modules[full]
    finally:
        if before is not None:
            sys.modules[full] = before
            setattr(sys.modules["furiosa.runtime"], name, before)
