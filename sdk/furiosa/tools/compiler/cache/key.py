"""What a result depends on, as one name."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import furiosa.common
import furiosa.compiler
import furiosa.enf
from furiosa.compiler import CompilerOptions

_SOURCES: Final = (furiosa.common, furiosa.compiler, furiosa.enf)
_PACKAGES: Final = ("furiosa-broker", "numpy", "onnx")  # what the compiler computes with
_PIECE: Final = 8 << 20
_THREADS: Final = 4


def key_of(model: bytes, options: CompilerOptions) -> str:
    """64 hexadecimal digits: equal for the same model, options and compiler, on every machine."""
    said = {
        "model": _digest(model),
        "options": _plain(options),
        "compiler": compiler_identity(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest(model: bytes) -> str:
    """SHA-256 over the SHA-256 of each piece: a model of 100 MB would take 60 ms on one core."""
    whole = memoryview(model)
    pieces = [whole[at : at + _PIECE] for at in range(0, len(model), _PIECE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = b"".join(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))
    return hashlib.sha256(digests).hexdigest()


@cache
def compiler_identity() -> str:
    """Versions, and the text of the compiler: a version alone stays the same while its code is worked on."""
    digest = hashlib.sha256()
    for name in _PACKAGES:
        digest.update(f"{name} {version(name)}\n".encode())
    for package in _SOURCES:
        for folder in package.__path__:
            for path in sorted(Path(folder).rglob("*.py")):
                text = path.read_bytes()
                digest.update(f"{path.relative_to(folder)} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What JSON can hold, without losing a difference between two values of an option."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {json.dumps(_plain(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an option of the compiler that cannot be part of a key: {value!r}")
