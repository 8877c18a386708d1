"""Labels of a node, from its cards. PURE.

What the cards of one node do not agree on is left out. Source: reference of the Kubernetes integration, 3
and 5.3.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from furiosa.common.views import Architecture

ORIGINAL: Final = "beta.furiosa.ai"
LATER: Final = "furiosa.ai"
MOST_CHARACTERS: Final = 63  # of a value
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_EDGES: Final = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:, ?([0-9a-f]{7,40}))?")


class Described(Protocol):
    """A card, from a broker or from the device tree."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def driver_version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Machine:
    """As its firmware says."""

    vendor: str = ""
    name: str = ""


def labels(cards: Sequence[Described], machine: Machine, *, later: bool) -> Mapping[str, str]:
    """None at all without cards. `later`: the names of the later generation, too."""
    if not cards:
        return {}
    architecture = _agreed(card.architecture.value for card in cards)
    version = _VERSION.match(_agreed(card.driver_version for card in cards) or "")
    found = {
        "npu.count": str(len(cards)),
        "npu.product": architecture,
        "npu.family": architecture,
        "machine.vendor": machine.vendor,
        "machine.name": machine.name,
        **_version("driver.version", version),
        "driver.reference": (version[4] or "")[:7] if version else "",
    }
    named = {f"{ORIGINAL}/{name}": value for name, value in found.items()}
    if later:
        new = {name: found[name] for name in ("npu.count", "npu.family", "npu.product")}
        new |= _version("npu.driver.version", version)
        new["npu.driver.version.metadata"] = found["driver.reference"]
        named |= {f"{LATER}/{name}": value for name, value in new.items()}
    fit = {name: fitting(value) for name, value in named.items()}
    return {name: value for name, value in fit.items() if value}


def fitting(text: str) -> str:
    """A value that a label may have; empty when there is nothing left of it."""
    plain = _EDGES.sub("", _ODD.sub("-", text))[:MOST_CHARACTERS]
    return _EDGES.sub("", plain)


def feature_file(found: Mapping[str, str]) -> str:
    """As Node Feature Discovery reads it."""
    return "".join(f"{name}={value}\n" for name, value in found.items())


def _agreed(values: Iterable[str]) -> str:
    """What all of them say, or nothing."""
    different = set(values)
    return different.pop() if len(different) == 1 else ""


def _version(name: str, version: re.Match[str] | None) -> dict[str, str]:
    if version is None:
        return {}
    major, minor, patch = version.group(1, 2, 3)
    return {
        name: f"{major}.{minor}.{patch}",
        f"{name}.major": major,
        f"{name}.minor": minor,
        f"{name}.patch": patch,
    }
