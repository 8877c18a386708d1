"""Compiler configuration keys. Source: compiler reference 6; what each does: docs/compiler/options.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from furiosa.compiler.diagnostics import InvalidConfig

Permutation = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompilerConfig:
    """`permute_input` has one permutation for each input, as torch.permute takes it; empty: none at all.

    Raises: InvalidConfig for keys that exclude each other.
    """

    permute_input: tuple[Permutation, ...] = ()
    allow_precision_error: bool = False
    remove_lower: bool = False
    remove_unlower: bool = False
    keep_unsignedness: bool = False
    split_unit: int = 0
    sa_malloc: bool = False
    use_program_loading: bool = False

    def __post_init__(self) -> None:
        if self.permute_input and self.remove_lower:
            raise InvalidConfig(
                "compiler config: permute_input and remove_lower exclude each other: "
                "an input in the NPU layout has axes of its own"
            )

    @classmethod
    def from_mapping(cls, given: Mapping[str, object]) -> Self:
        """Raises: InvalidConfig for an unknown key, or a value of the wrong type: nothing is converted."""
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key in _REMOVED:
                raise InvalidConfig(f"compiler config: {key!r} was removed: {_REMOVED[key]}")
            if key not in KEYS:
                raise InvalidConfig(
                    f"compiler config: unknown key {key!r}: choose from {', '.join(KEYS)}"
                )
            expected, read = KEYS[key]
            found[key] = read(value)
            if found[key] is None:
                raise InvalidConfig(
                    f"compiler config: {key!r}: expected {expected}, found {_type_of(value)}"
                )
        return cls(**found)


_REMOVED: Final = {
    "without_quantize": "let furiosa.quantizer.ModelEditor convert the input's type before quantising"
}


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _permutations(value: object) -> tuple[Permutation, ...] | None:
    if not isinstance(value, (list, tuple)):
        return None
    found: list[Permutation] = []
    for item in value:
        if not isinstance(item, (list, tuple)) or any(_int(axis) is None for axis in item):
            return None
        found.append(tuple(item))
    return tuple(found)


def _type_of(value: object) -> str:
    """`int`, `list of str`, `list of list of str`: as deep as what was expected."""
    name = type(value).__name__
    if not isinstance(value, (list, tuple)):
        return name
    inner = dict.fromkeys(map(_type_of, value))
    return f"{name} of {' and '.join(inner)}" if inner else name


# key to its type in words and what reads a value of that type, or gives None
KEYS: Final[Mapping[str, tuple[str, Callable[[object], Any]]]] = {
    "permute_input": ("list of list of int, one for each input", _permutations),
    "allow_precision_error": ("bool", _bool),
    "remove_lower": ("bool", _bool),
    "remove_unlower": ("bool", _bool),
    "keep_unsignedness": ("bool", _bool),
    "split_unit": ("int", _int),
    "sa_malloc": ("bool", _bool),
    "use_program_loading": ("bool", _bool),
}
