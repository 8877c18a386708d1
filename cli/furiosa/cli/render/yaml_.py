"""YAML of lists and mappings of text, numbers and null: block style, scalars quoted only where they must be.

Source: furiosactl reference 8 (`firmware: 1.7.3, 0a1b2c3` and `pci_dev: 492:0` are published unquoted);
YAML 1.2.2, 7.3.3 (plain scalars) and 10.3.2 (core schema).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Plain text that a reader would take for null, a truth value or a number, also one of YAML 1.1; only
# its base 60 (492:0) is left alone, because the published output writes PCI numbers plain.
_NOT_TEXT = re.compile(
    r"~|null|true|false|yes|no|on|off|y|n"
    r"|[-+]?(\.?[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)(e[-+]?[0-9]+)?"
    r"|0x[0-9a-f]+|0o[0-7]+|0b[01]+|<<|[-+]?\.inf|\.nan",
    re.IGNORECASE,
)
_INDICATORS = tuple("-?:,[]{}#&*!|>'\"%@`=")


def yaml_text(document: Sequence[Any] | Mapping[str, Any]) -> str:
    return "".join(f"{line}\n" for line in _block(document))


def _block(value: Any) -> Iterator[str]:
    """Lines of a collection, at no indent."""
    if not value:
        yield "{}" if isinstance(value, Mapping) else "[]"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if _is_collection(item) and item:
                # a sequence under a key needs no indent of its own, a mapping does
                indent = "  " if isinstance(item, Mapping) else ""
                yield f"{key}:"
                yield from (indent + line for line in _block(item))
            else:
                yield f"{key}: {_inline(item)}"
    else:
        for item in value:
            first, *rest = _block(item) if _is_collection(item) else (_inline(item),)
            yield f"- {first}"
            yield from ("  " + line for line in rest)


def _is_collection(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and not isinstance(value, str)
    )


def _inline(value: Any) -> str:
    if _is_collection(value):
        return next(_block(value))  # an empty one
    if value is None:
        return "null"
    return _plain_or_quoted(value) if isinstance(value, str) else str(value)


def _plain_or_quoted(text: str) -> str:
    plain = (
        text
        and text.isprintable()
        and text == text.strip()
        and not text.startswith(_INDICATORS)
        and not text.endswith(":")
        and ": " not in text
        and " #" not in text
        and _NOT_TEXT.fullmatch(text) is None
    )
    return text if plain else '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()
