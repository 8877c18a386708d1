"""What changes the name of a result."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import furiosa.compiler
from furiosa.compiler import CompilerOptions
from furiosa.tools.compiler.cache.key import _plain, compiler_identity, key_of

OPTIONS = CompilerOptions()


def test_model_and_every_option_are_in_the_key() -> None:
    others = [replace(OPTIONS, target="warboy"), replace(OPTIONS, batch_size=2)]
    others += [replace(OPTIONS, target_ir=ir) for ir in ("dfg", "lir")]
    keys = {key_of(b"model", OPTIONS), key_of(b"model2", OPTIONS)}
    keys |= {key_of(b"model", each) for each in others}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {64}


def test_every_piece_of_a_large_model_counts_and_so_does_their_order() -> None:
    piece = 8 << 20
    zeros, ones = bytes(piece), b"\1" * piece
    models = [b"", zeros, zeros + zeros, zeros + ones, ones + zeros, zeros + ones + b"\0"]
    assert len({key_of(model, OPTIONS) for model in models}) == len(models)


def test_a_change_of_the_compiler_changes_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of(b"model", OPTIONS)
    (tmp_path / "more.py").write_text("")
    monkeypatch.setattr(furiosa.compiler, "__path__", [*furiosa.compiler.__path__, str(tmp_path)])
    compiler_identity.cache_clear()
    try:
        assert key_of(b"model", OPTIONS) != before
    finally:
        compiler_identity.cache_clear()


def test_another_process_finds_the_same_key() -> None:
    code = (
        "from furiosa.compiler import CompilerOptions as O;"
        "from furiosa.tools.compiler.cache.key import key_of; print(key_of(b'model', O()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == key_of(b"model", OPTIONS)


@dataclass
class _Config:
    value: Any = field()


def test_options_of_other_types_stay_different() -> None:
    values: list[Any] = [1, "1", 1.5, True, None, [1], [[1]], {"a": 1}, {1: 1}, {"1": 1}, ("a", 1)]
    plain = [repr(_plain(_Config(value))) for value in values]
    assert len(set(plain)) == len(values)
    with pytest.raises(TypeError, match="cannot be part of a key"):
        _plain(_Config(object()))
