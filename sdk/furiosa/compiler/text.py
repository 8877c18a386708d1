"""Words of the text forms: names, shapes, quantisation, attributes. Pure and deterministic."""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from furiosa.compiler.value import Array, Attribute, Attributes, ModelInfo, QuantParams, Value

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:\-]+", re.ASCII)
_SHOWN: Final = 4  # scales printed before the rest becomes a digest


def name(text: str) -> str:
    """`%name`, or `%"..."` with JSON escapes when the name has other than letters, digits and _./:-"""
    return "%" + (text if _PLAIN.fullmatch(text) else json.dumps(text))


def names(texts: Iterable[str]) -> str:
    return ", ".join(name(text) if text else "-" for text in texts)


def word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def sources(texts: Iterable[str]) -> str:
    return "+".join(map(word, texts))


def number(value: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    return str(np.float32(value))


def digest(data: Array) -> str:
    return hashlib.sha256(data.tobytes()).hexdigest()[:12]


def quantization(params: QuantParams) -> str:
    scales = ",".join(map(number, params.scales[:_SHOWN]))
    points = ",".join(map(str, params.zero_points[:_SHOWN]))
    if len(params.scales) > _SHOWN:
        rest = np.array([*params.scales, *params.zero_points], np.float64)
        scales, points = f"{scales},..", f"{points},..#{digest(rest)}"
    axis = "" if params.axis is None else f" axis {params.axis}"
    return f"q({scales} @ {points}{axis})"


def array(data: Array) -> str:
    """Up to eight elements in full, more as a digest."""
    if data.size <= 8:
        shown = number if data.dtype == np.float32 else str
        return "[" + ", ".join(shown(item) for item in data.ravel().tolist()) + "]"
    return f"#{digest(data)}"


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
    return " {" + ", ".join(f"{key}={_attribute(table[key])}" for key in sorted(table)) + "}"


def heading(kind: str, model: ModelInfo) -> str:
    return f"{kind} {word(model.name)} opset {model.opset} batch {model.batch}"
