"""Words of the text forms: names, shapes, quantisation, attributes. Pure and deterministic.

`reader` reads them back.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from furiosa.compiler.value import (
    Array,
    Attribute,
    Attributes,
    ModelInfo,
    PortForm,
    QuantParams,
    Value,
)

PLAIN: Final = re.compile(r"[A-Za-z0-9_./:\-]*[A-Za-z0-9_./\-]", re.ASCII)
_SHOWN: Final = 4  # scales printed before the rest becomes a digest
_NOTHING: Final = "nothing"
_LISTED: Final = 8  # elements of an array that are printed at most; of more, a digest


def name(text: str) -> str:
    """`%name`, or `%"..."` with JSON escapes when the name has other than letters, digits and _./:-"""
    return "%" + word(text)


def names(texts: Iterable[str]) -> str:
    return ", ".join(name(text) if text else "-" for text in texts)


def word(text: str) -> str:
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def origin(name: str, sources: Sequence[str]) -> str:
    """`; conv`, or `; conv from conv+relu` when a node stands for others than one of its own name."""
    if tuple(sources) == (name,):
        return f"; {word(name)}"
    written = (
        json.dumps(source) if source.startswith(_NOTHING) else word(source) for source in sources
    )
    return f"; {word(name)} from {'+'.join(written) or _NOTHING}"


def number(value: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    return str(np.float32(value))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _cut(params: QuantParams) -> Array | None:
    """Scales, then zero points, when they are too many to be printed."""
    if len(params.scales) <= _SHOWN:
        return None
    return np.array([*params.scales, *params.zero_points], np.float64)


def quantization(params: QuantParams) -> str:
    scales = ",".join(map(number, params.scales[:_SHOWN]))
    points = ",".join(map(str, params.zero_points[:_SHOWN]))
    if (every := _cut(params)) is not None:
        scales, points = f"{scales},..", f"{points},..#{digest(every.tobytes())}"
    axis = "" if params.axis is None else f" axis {params.axis}"
    return f"q({scales} @ {points}{axis})"


def array(data: Array) -> str:
    """Up to eight elements in full; more, and NaN, of which there are many, as a digest."""
    if _is_listed(data):
        shown = number if data.dtype == np.float32 else str
        return "[" + ", ".join(shown(item) for item in data.ravel().tolist()) + "]"
    return f"#{digest(data.tobytes())}"


def _is_listed(data: Array) -> bool:
    return data.size <= _LISTED and not (data.dtype.kind == "f" and np.isnan(data).any())


def held(values: Iterable[Value]) -> Iterator[Array]:
    """The arrays that the text of these values may name by a digest."""
    for value in values:
        if value.data is not None:
            yield value.data
        if value.quantization is not None and (every := _cut(value.quantization)) is not None:
            yield every


def held_by(table: Attributes) -> Iterator[Array]:
    return (value for value in table.values() if isinstance(value, np.ndarray))


def with_data(printed: str, arrays: Iterable[Array]) -> str:
    """A text with the data that it names by digests, one line each, in the order given."""
    lines: dict[str, str] = {}
    for data in arrays:
        if not _is_listed(data) and (key := digest(raw := data.tobytes())) not in lines:
            lines[key] = f"data #{key} = {base64.b64encode(raw).decode()}\n"
    return printed + "".join(lines.values())


def shaped(value: Value) -> str:
    """`int8[1,3,8,8] q(0.5 @ 3)`"""
    text = f"{value.dtype.value}[{','.join(map(str, value.shape))}]"
    if value.quantization is not None:
        text += " " + quantization(value.quantization)
    return text


def declared(value: Value) -> str:
    """`%name: int8[1,3,8,8] q(0.5 @ 3)`"""
    return f"{name(value.name)}: {shaped(value)}"


def constants(values: Iterable[Value]) -> list[str]:
    return [
        f"  const {declared(value)} = {array(value.data)}"
        for value in values
        if value.data is not None
    ]


def _attribute(value: Attribute) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}{array(value)}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_attribute, value)) + "]"
    return str(value)


def attributes(table: Attributes) -> str:
    """` {a=1, b=[2, 3]}` in order of name; empty for none."""
    if not table:
        return ""
    return " {" + ", ".join(f"{word(key)}={_attribute(table[key])}" for key in sorted(table)) + "}"


def heading(kind: str, model: ModelInfo) -> str:
    """`dfg net opset 13 batch 1 source <SHA-256>`, and for each form ` port %x NHWC` or the like of
    `port %y N??CHW[1,1,2,8,6,5]`."""
    source = model.sha256.hex()
    forms = "".join(f" port {name(form.port)} {_form(form)}" for form in model.forms)
    return (
        f"{kind} {word(model.name)} opset {model.opset} batch {model.batch} source {source}{forms}"
    )


def _form(form: PortForm) -> str:
    return form.axes + (f"[{','.join(map(str, form.extent))}]" if form.extent else "")
