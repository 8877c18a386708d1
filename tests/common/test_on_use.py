"""Names that are imported when they are used."""

import sys
from types import ModuleType

import pytest

from furiosa.common.on_use import on_use


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One name of its own, and one of its module `home`."""
    made, home = ModuleType("package"), ModuleType("package.home")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setitem(sys.modules, home.__name__, home)
    vars(home)["far"] = "far"
    vars(made)["near"] = "near"
    vars(made)["__getattr__"], vars(made)["__dir__"] = on_use("package", {"far": "home"})
    return made


def test_a_name_is_looked_up_once(package: ModuleType) -> None:
    assert "far" not in vars(package)
    assert package.far == "far"
    assert vars(package)["far"] == "far"


def test_all_names_are_listed_before_they_are_used(package: ModuleType) -> None:
    assert {"far", "near"} <= set(dir(package))
    assert "far" not in vars(package)


def test_another_name_is_an_attribute_error_of_the_package(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'fat'"):
        _ = package.fat
