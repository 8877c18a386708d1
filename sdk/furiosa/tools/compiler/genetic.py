"""Parameters of the search for a better allocation of memory. Source of the keys: compiler reference 2."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from furiosa.compiler import InvalidConfig
from furiosa.compiler.options import MAX_ATTEMPTS, Search

_BOOLS: Final = {"true": True, "false": False}
_TACTICS: Final = ("random", "heuristic")
_MAX: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class GeneticParams:
    """What `search` makes of them is all they do: docs/compiler/options.md."""

    population_size: int = 50
    generation_limit: int = 20
    max_prefetch_size: int = 0  # bytes; nothing is prefetched on this NPU
    nondeterministic: bool = False
    pin_tensors: bool = False  # nor does the search move a tensor while the program runs
    init_tactic: str = "heuristic"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`K=V,K=V...`; booleans are `true` or `false`. Raises: InvalidConfig."""
        given: dict[str, object] = {}
        for item in text.split(","):
            key, equals, word = item.partition("=")
            if not equals:
                raise InvalidConfig(f"genetic optimization: expected KEY=VALUE, found {item!r}")
            if key in given:
                raise InvalidConfig(f"genetic optimization: {key!r} is given twice")
            given[key] = _value(word)
        return cls.from_mapping(given)

    @classmethod
    def from_mapping(cls, given: Mapping[str, object]) -> Self:
        """Raises: InvalidConfig, naming the key, for one that is unknown or of the wrong type or range."""
        for key, value in given.items():
            if key not in _EXPECTED:
                raise InvalidConfig(
                    f"genetic optimization: unknown key {key!r}: choose from {', '.join(_EXPECTED)}"
                )
            if not _fits(key, value):
                raise InvalidConfig(
                    f"genetic optimization: {key!r}: expected {_EXPECTED[key]}, found {value!r}"
                )
        return cls(**given)  # type: ignore[arg-type]  # checked above, key by key

    @property
    def search(self) -> Search:
        """As many attempts as a population of that size makes in that many generations, bounded."""
        return Search(
            attempts=min(self.population_size * self.generation_limit, MAX_ATTEMPTS),
            seed=secrets.randbits(32) if self.nondeterministic else 0,
            is_random_start=self.init_tactic == "random",
        )


_EXPECTED: Final = {
    "population_size": f"an int from 1 to {_MAX}",
    "generation_limit": f"an int from 1 to {_MAX}",
    "max_prefetch_size": f"an int from 0 to {_MAX}",
    "nondeterministic": "true or false",
    "pin_tensors": "true or false",
    "init_tactic": "random or heuristic",
}
_LEAST: Final = {"population_size": 1, "generation_limit": 1, "max_prefetch_size": 0}


def _value(word: str) -> object:
    if word in _BOOLS:
        return _BOOLS[word]
    is_number = word.isascii() and word.isdecimal() and len(word) <= 20
    return int(word) if is_number else word


def _fits(key: str, value: object) -> bool:
    if key in _LEAST:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return is_int and _LEAST[key] <= int(str(value)) <= _MAX
    if key == "init_tactic":
        return value in _TACTICS
    return isinstance(value, bool)
