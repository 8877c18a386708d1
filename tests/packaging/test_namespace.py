"""The four source roots share one namespace package."""

import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("protos", "sdk", "broker", "cli")


def test_no_root_has_an_init_that_would_hide_the_others() -> None:
    assert [r for r in ROOTS if (ROOT / r / "furiosa" / "__init__.py").exists()] == []


@pytest.mark.parametrize("root", ROOTS)
def test_every_package_says_that_it_is_typed(root: str) -> None:
    packages = [p for p in (ROOT / root / "furiosa").iterdir() if (p / "__init__.py").exists()]
    assert packages
    assert [p.name for p in packages if not (p / "py.typed").exists()] == []


def test_every_name_in_all_is_importable() -> None:
    import furiosa

    checked = 0
    for module in pkgutil.iter_modules(furiosa.__path__, "furiosa."):
        package = importlib.import_module(module.name)
        for name in getattr(package, "__all__", ()):
            assert hasattr(package, name), f"{module.name}.{name}"
            checked += 1
    assert checked > 20
