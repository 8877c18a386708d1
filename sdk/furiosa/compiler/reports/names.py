"""Names that strangers chose, as words of a document: no control characters, no surrogates."""

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def printable(text: str) -> str:
    """With U+FFFD for every character that XML or a line of text cannot hold."""
    return _UNPRINTABLE.sub("\ufffd", text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters. The end stays: names say last what they are about."""
    return text if len(text) <= length else "\u2026" + text[len(text) - length + 1 :]
