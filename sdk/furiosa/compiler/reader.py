"""Reads the words of the text forms that `text` writes. Texts may come from anybody.

A file is the text of one graph and, behind it, a line for each array that the text names by a digest:

    data #37418419cb1f = <base64>
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler import text
from furiosa.compiler.diagnostics import InvalidFormat
from furiosa.compiler.value import Array, Attribute, ModelInfo, PortForm, QuantParams, Value
from furiosa.enf.limits import MAX_DIMENSION, MAX_RANK

T = TypeVar("T")

_BLANKS: Final = re.compile(r"\s*")
_FLOAT: Final = r"-?(?:inf|nan|\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_NUMBER: Final = re.compile(_FLOAT, re.ASCII)
_ELEMENT: Final = re.compile("True|False|" + _FLOAT, re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,20}(?!\d|\.\d|\.(?!\.)|e)", re.ASCII)
_JSON: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_AXES: Final = re.compile(r"[A-Z?]+", re.ASCII)
_DIGEST: Final = re.compile(r"#[0-9a-f]{12}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_DTYPES: Final = re.compile("|".join(sorted((d.value for d in DType), reverse=True)))
_DATA: Final = re.compile(r"data (#[0-9a-f]{12}) = ([A-Za-z0-9+/=]*)\n?")


def _arrays(data: str) -> dict[str, bytes]:
    """The `data` lines of a file. Raises: InvalidFormat for one that is not what its digest says."""
    found: dict[str, bytes] = {}
    at = 0
    while match := _DATA.match(data, at):
        try:
            found[match[1]] = base64.b64decode(match[2], validate=True)
        except binascii.Error as exc:
            raise InvalidFormat(f"data {match[1]} is no base64: {exc}") from None
        if f"#{text.digest(found[match[1]])}" != match[1]:
            raise InvalidFormat(f"data {match[1]} is other data", "give the file as it was written")
        at = match.end()
    if data[at:].strip():
        raise InvalidFormat(f"after the graph: {data[at : at + 40]!r} is no data line")
    return found


class Reader:
    """A place in a text. Methods read what they are named after and raise InvalidFormat for anything else.

    Blanks and line ends separate words and mean nothing else.
    """

    def __init__(self, source: str) -> None:
        head, mark, tail = source.partition("\ndata #")
        self._source = head
        self._arrays = _arrays("data #" + tail) if mark else {}
        self._at = 0

    def fail(self, expected: str) -> NoReturn:
        self._skip()
        line = self._source.count("\n", 0, self._at) + 1
        found = self._source[self._at : self._at + 40].splitlines()
        raise InvalidFormat(
            f"line {line}: expected {expected}, found {found[0]!r}"
            if found
            else f"line {line}: expected {expected}, found the end",
            "give the file as the compiler wrote it",
        )

    # what everything is made of

    def _skip(self) -> None:
        match = _BLANKS.match(self._source, self._at)
        assert match is not None  # nothing is a match, too
        self._at = match.end()

    def sees(self, literal: str) -> bool:
        """Whether `literal` comes next, a word of several letters as a whole word; nothing is read."""
        self._skip()
        if not self._source.startswith(literal, self._at):
            return False
        after = self._source[self._at + len(literal) : self._at + len(literal) + 1]
        is_word = len(literal) > 1 and literal[-1].isalnum()
        return not (is_word and (after.isalnum() or after == "_"))

    def has(self, literal: str) -> bool:
        """Whether `literal` comes next; then it is read."""
        if not self.sees(literal):
            return False
        self._at += len(literal)
        return True

    def expect(self, literal: str) -> None:
        if not self.has(literal):
            self.fail(repr(literal))

    def sees_glued(self, literal: str) -> bool:
        """Whether `literal` and a number behind it, without a blank, come next; nothing is read."""
        self._skip()
        end = self._at + len(literal)
        return self._source.startswith(literal, self._at) and self._source[end : end + 1].isdigit()

    def expect_glued(self, literal: str) -> None:
        """`literal` right before a number."""
        if not self.sees_glued(literal):
            self.fail(f"{literal} and a number")
        self._at += len(literal)

    def comment(self) -> None:
        """What may follow a semicolon on this line, which is there for people."""
        if self.has(";"):
            end = self._source.find("\n", self._at)
            self._at = len(self._source) if end < 0 else end

    def fits(self, pattern: re.Pattern[str]) -> bool:
        """Whether `pattern` comes next; nothing is read."""
        self._skip()
        return pattern.match(self._source, self._at) is not None

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        self._skip()
        match = pattern.match(self._source, self._at)
        if match is None:
            self.fail(expected)
        self._at = match.end()
        return match[0]

    def end(self) -> None:
        self._skip()
        if self._at < len(self._source):
            self.fail("the end")

    def listed(self, item: Callable[[], T], opening: str, closing: str) -> tuple[T, ...]:
        """`opening` item, item, ... `closing`; possibly none."""
        self.expect(opening)
        found: list[T] = []
        while not self.has(closing):
            if found:
                self.expect(",")
            found.append(item())
        return tuple(found)

    def until(self, closing: str, item: Callable[[], T]) -> Iterator[T]:
        """Items up to `closing`, which is read."""
        while not self.has(closing):
            yield item()

    def joined(self, item: Callable[[], T], mark: str) -> tuple[T, ...]:
        """item `mark` item ...: one at least."""
        found = [item()]
        while self.has(mark):
            found.append(item())
        return tuple(found)

    # words

    def integer(self) -> int:
        return int(self.match(_INTEGER, "a whole number"))

    def number(self) -> float:
        return float(np.float32(self.match(_NUMBER, "a number")))

    def key(self) -> str:
        return self.match(_KEY, "a word")

    def word(self) -> str:
        return self._json() if self.sees('"') else self.match(text.PLAIN, "a name")

    def name(self) -> str:
        """`%name`"""
        self.expect("%")
        return self.word()

    def optional_name(self) -> str:
        """A name, or "" for `-`."""
        return "" if self.has("-") else self.name()

    def names(self) -> tuple[str, ...]:
        return self.listed(self.optional_name, "(", ")")

    def _json(self) -> str:
        literal = self.match(_JSON, "a string in quotes")
        try:
            found = json.loads(literal)
            found.encode()  # half of a surrogate pair is no text
        except ValueError:
            self.fail("a string in quotes before this")
        assert isinstance(found, str)
        return found

    # what the text forms share

    def heading(self, kind: str) -> ModelInfo:
        self.expect(kind)
        name = self.word()
        self.expect("opset")
        opset = self.integer()
        self.expect("batch")
        batch = self.integer()
        self.expect("source")
        digest = bytes.fromhex(self.match(_HASH, "a SHA-256"))
        forms = []
        while self.has("port"):
            port, axes = self.name(), self.match(_AXES, "axes")
            forms.append(PortForm(port, axes, self.shape() if self.sees("[") else ()))
        return ModelInfo(name, opset, batch, digest, tuple(forms))

    def dtype(self) -> DType:
        return DType(self.match(_DTYPES, "an element type"))

    def _dimension(self) -> int:
        found = self.integer()
        if not 0 < found <= MAX_DIMENSION:
            self.fail(f"a dimension of 1 to {MAX_DIMENSION} before this")
        return found

    def shape(self) -> tuple[int, ...]:
        found = self.listed(self._dimension, "[", "]")
        if len(found) > MAX_RANK:
            self.fail(f"at most {MAX_RANK} dimensions before this")
        return found

    def declared(self) -> Value:
        """`%name: int8[1,3,8,8] q(0.5 @ 3)`"""
        name = self.name()
        self.expect(":")
        return Value(name, self.dtype(), self.shape(), self.quantization())

    def quantization(self) -> QuantParams | None:
        if not self.has("q("):
            return None
        scales, is_cut = self._until_cut(self.number)
        self.expect("@")
        points, _ = self._until_cut(self.integer)
        if is_cut:
            scales, points = self._scales_and_points()
        axis = self.integer() if self.has("axis") else None
        self.expect(")")
        return QuantParams(tuple(scales), tuple(points), axis)

    def _until_cut(self, item: Callable[[], Any]) -> tuple[list[Any], bool]:
        """Items separated by commas; whether `..` ends them."""
        found = [item()]
        while self.has(","):
            if self.has(".."):
                return found, True
            found.append(item())
        return found, False

    def _scales_and_points(self) -> tuple[list[float], list[int]]:
        raw = self._bytes()
        if len(raw) % 16:
            self.fail("as many scales as zero points before this")
        both = np.frombuffer(raw, np.float64).tolist()
        scales, points = both[: len(both) // 2], both[len(both) // 2 :]
        if not all(math.isfinite(point) and point == int(point) for point in points):
            self.fail("whole zero points before this")
        return scales, [int(point) for point in points]

    def array(self, dtype: DType, shape: tuple[int, ...]) -> Array:
        """The elements in brackets, or a digest of them."""
        if self.sees("#"):
            raw = self._bytes()
            if len(raw) != math.prod(shape) * dtype.itemsize:
                self.fail(f"data of {math.prod(shape) * dtype.itemsize} bytes before this")
            return np.frombuffer(raw, dtype.numpy).reshape(shape)
        elements = self.listed(lambda: self.match(_ELEMENT, "an element"), "[", "]")
        if len(elements) != math.prod(shape):
            self.fail(f"{math.prod(shape)} elements before this")
        data = np.empty(len(elements), dtype.numpy)
        try:
            for index, element in enumerate(elements):
                data[index] = element == "True" if dtype is DType.BOOL else element
        except (ValueError, OverflowError):
            self.fail(f"elements of {dtype.value} before this")
        data = data.reshape(shape)
        data.flags.writeable = False
        return data

    def typed_array(self, opening: str = "[", mark: str = ",", closing: str = "]") -> Array:
        """`int8[2,3]` and its elements."""
        dtype = self.dtype()
        self.expect(opening)
        shape = () if self.sees(closing) else self.joined(self.integer, mark)
        self.expect(closing)
        if any(size < 0 for size in shape):
            self.fail("sizes before this")
        return self.array(dtype, shape)

    def _bytes(self) -> bytes:
        digest = self.match(_DIGEST, "a digest")
        if digest not in self._arrays:
            self.fail(f"a line 'data {digest} = ...' behind the graph; before this")
        return self._arrays[digest]

    def constant(self) -> Value:
        value = self.declared()
        self.expect("=")
        data = self.array(value.dtype, value.shape)
        return Value(value.name, value.dtype, value.shape, value.quantization, data)

    def attributes(self) -> dict[str, Attribute]:
        if not self.sees("{"):
            return {}
        return dict(self.listed(self._pair, "{", "}"))

    def _pair(self) -> tuple[str, Attribute]:
        key = self.word()
        self.expect("=")
        return key, self._attribute()

    def _attribute(self) -> Attribute:
        if self.sees("["):
            items = self.listed(self._scalar, "[", "]")
            if len({type(item) for item in items}) > 1:
                self.fail("items of one kind before this")
            return items  # type: ignore[return-value]
        return self.typed_array() if self.fits(_DTYPES) else self._scalar()

    def _scalar(self) -> int | float | str:
        if self.sees('"'):
            return self._json()
        return self.integer() if self.fits(_INTEGER) else self.number()

    def origin(self) -> tuple[str, tuple[str, ...]]:
        """The node's name and the names of the model's nodes that it stands for."""
        self.expect(";")
        name = self.word()
        if not self.has("from"):
            return name, (name,)
        return name, () if self.has("nothing") else self.joined(self.word, "+")


class Names:
    """Values by name, each defined once."""

    def __init__(self, reader: Reader) -> None:
        self._read = reader
        self.values: dict[str, Value] = {}

    def define(self, value: Value) -> str:
        if value.name in self.values:
            self._read.fail(f"{value.name!r} to be defined once, before this")
        self.values[value.name] = value
        return value.name

    def known(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """`names`, each of which has a value; an empty one is left out on purpose."""
        for name in names:
            if name and name not in self.values:
                self._read.fail(f"values that are defined, and {name!r} is not, before this")
        return names

    def result(self) -> str:
        """A declared value, or "" for `-`."""
        return "" if self._read.has("-") else self.define(self._read.declared())


def read_graph(
    read: Reader, names: Names, item: Callable[[int], T]
) -> tuple[tuple[str, ...], tuple[str, ...], list[T]]:
    """`{ input* const* item* output* }`, the end of the text: inputs, outputs and items.

    `item` gets the number of the one that it is to read.
    """
    inputs: list[str] = []
    outputs: list[str] = []
    items: list[T] = []
    read.expect("{")
    while not read.has("}"):
        if read.has("input"):
            inputs.append(names.define(read.declared()))
        elif read.has("const"):
            names.define(read.constant())
        elif read.has("output"):
            outputs += names.known((read.name(),))
        else:
            items.append(item(len(items)))
    read.end()
    return tuple(inputs), tuple(outputs), items
