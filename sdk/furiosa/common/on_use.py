"""Names of a package that are imported when they are used."""

import importlib
import sys
from collections.abc import Callable, Mapping


def on_use(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Its `__getattr__` and `__dir__`. `homes`: each name and its module, below `package`.

    Define them where no type checker looks: it would take any name for one of the package.
    Source: PEP 562.
    """
    names = vars(sys.modules[package])

    def getattribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        names[name] = value
        return value

    def directory() -> list[str]:
        return sorted({*names, *homes})

    return getattribute, directory
