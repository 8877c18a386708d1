"""What counts as a model, and what becomes of it before a device sees it."""

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from furiosa.common.model_limits import ENF_MAGIC, MAX_MODEL_BYTES
from furiosa.compiler import CompilerConfig, CompilerOptions, InvalidModel, compile
from furiosa.enf import read
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._source import enf_of
from furiosa.tools.compiler.cache import cached
from support import models

ENF = ENF_MAGIC + b"program"
TARGET = "warboy-2pe"


class Bytes:
    def __bytes__(self) -> bytes:
        return ENF


class PathWithBytes:
    """Paths have `__bytes__` too, which gives their name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)

    def __bytes__(self) -> bytes:
        return b"the name of a file"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, CompilerOptions]]:
    """What the compiler was asked; it answers with `ENF`."""
    asked: list[tuple[bytes, CompilerOptions]] = []

    def compile(model: bytes, options: CompilerOptions, *rest: Any, **more: Any) -> bytes:
        asked.append((model, options))
        return ENF

    monkeypatch.setattr(cached, "compile", compile)
    return asked


@pytest.mark.parametrize("model", [ENF, bytearray(ENF), Bytes()])
def test_an_enf_is_taken_as_it_is(model: Any, compiled: list[Any]) -> None:
    assert enf_of(model, TARGET, None, None) == ENF
    assert enf_of(model, TARGET, 1, {}) == ENF
    assert compiled == []


def test_a_path_is_read_and_not_taken_for_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "model.enf"
    file.write_bytes(ENF)
    for path in (str(file), file, PathWithBytes(file)):
        assert enf_of(path, TARGET, None, None) == ENF


def test_anything_else_is_compiled_for_the_target_and_batch(compiled: list[Any]) -> None:
    assert enf_of(b"onnx", "warboy", 4, {}) == ENF
    assert compiled == [(b"onnx", CompilerOptions(target="warboy", batch_size=4))]
    enf_of(b"onnx", TARGET, None, None)
    assert compiled[1] == (b"onnx", CompilerOptions(target=TARGET, batch_size=1))


def test_a_batch_multiplies_the_first_dimension() -> None:
    model = models.residual_cnn().SerializeToString()
    single, batched = (read(enf_of(model, TARGET, size, None)) for size in (None, 4))
    for one, four in zip(
        (*single.input_specs, *single.output_specs),
        (*batched.input_specs, *batched.output_specs),
        strict=True,
    ):
        assert four.shape == (4 * one.shape[0], *one.shape[1:])


def test_a_tensorflow_lite_model_becomes_an_enf(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="what makes the model is there on x86-64 only")
    from support.tflite_models import Net

    net = Net()
    x = net.tensor((1, 4))
    file = tmp_path / "model.tflite"
    file.write_bytes(net.model([x], [net.node("RELU", [x], net.tensor((1, 4)))]))
    assert read(enf_of(file, TARGET, None, None)).input_specs[0].shape == (1, 4)


@pytest.mark.parametrize("ir", ["dfg", "cdfg", "lir"])
def test_an_intermediate_form_is_a_model(tmp_path: Path, ir: str) -> None:
    model = models.residual_cnn().SerializeToString()
    file = tmp_path / f"model.{ir}"
    file.write_bytes(compile(model, CompilerOptions(target=TARGET, target_ir=ir)))
    assert enf_of(file, TARGET, None, None) == enf_of(model, TARGET, None, None)


def test_tensors_beside_the_file_are_read_with_it(tmp_path: Path, compiled: list[Any]) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(
        models.residual_cnn(),
        file,
        save_as_external_data=True,
        size_threshold=0,
        location="weights",
    )
    enf_of(file, TARGET, None, None)
    ((data, _),) = compiled
    tensors = onnx.load_model_from_string(data).graph.initializer
    assert all(tensor.raw_data and not tensor.external_data for tensor in tensors)
    (tmp_path / "weights").unlink()
    with pytest.raises(FuriosaRuntimeError, match="is in 'weights', which cannot be read"):
        enf_of(file, TARGET, None, None)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    with pytest.raises(FuriosaRuntimeError) as caught:
        enf_of(missing, TARGET, None, None)
    assert str(caught.value) == f"cannot read model {missing}: No such file or directory"
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(FuriosaRuntimeError, match="Is a directory"):
        enf_of(tmp_path, TARGET, None, None)


def test_what_cannot_be_a_path_is_named() -> None:
    with pytest.raises(ValueError, match=r"^model: 'a\\x00b' cannot be a path: "):
        enf_of("a\0b", "warboy", None, None)


def test_an_empty_model(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.touch()
    with pytest.raises(FuriosaRuntimeError, match=f"model {file} is empty"):
        enf_of(file, TARGET, None, None)
    with pytest.raises(FuriosaRuntimeError, match="model of 0 bytes is empty"):
        enf_of(b"", TARGET, None, None)


@pytest.mark.parametrize("model", [None, 3, [b"onnx"]])
def test_what_is_neither_path_nor_bytes(model: Any) -> None:
    with pytest.raises(TypeError, match="model: expected a path or bytes, found "):
        enf_of(model, TARGET, None, None)


def test_a_model_that_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    error = InvalidModel("the operator is unknown", "use another", "n1", "Foo")

    def compile(model: bytes, options: CompilerOptions, *rest: Any, **more: Any) -> bytes:
        raise error

    monkeypatch.setattr(cached, "compile", compile)
    with pytest.raises(FuriosaRuntimeError) as caught:
        enf_of(b"onnx", TARGET, None, None)
    assert str(caught.value) == f"cannot compile model of 4 bytes: {error} (native error code: 5)"
    assert caught.value.__cause__ is error


def test_a_batch_size_the_compiler_refuses() -> None:
    with pytest.raises(FuriosaRuntimeError, match="batch size 5000"):
        enf_of(b"onnx", TARGET, 5000, None)


def test_an_enf_has_its_own_batch_size() -> None:
    with pytest.raises(FuriosaRuntimeError, match="batch_size 4 cannot be applied to it"):
        enf_of(ENF, TARGET, 4, None)


@pytest.mark.parametrize(("size", "kind"), [(0, ValueError), ("4", TypeError), (True, TypeError)])
def test_a_batch_size_is_a_positive_int(size: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="batch_size: expected "):
        enf_of(b"onnx", TARGET, size, None)


def test_compiler_config_reaches_the_compiler(compiled: list[Any]) -> None:
    enf_of(b"onnx", TARGET, None, {"permute_input": [[0, 3, 1, 2]], "allow_precision_error": True})
    config = CompilerConfig(permute_input=((0, 3, 1, 2),), allow_precision_error=True)
    assert compiled == [(b"onnx", CompilerOptions(target=TARGET, config=config))]


@pytest.mark.parametrize("model", [ENF, b"onnx"])
def test_compiler_config_is_never_ignored(model: bytes, compiled: list[Any]) -> None:
    with pytest.raises(TypeError, match="compiler_config: expected a dict, found list"):
        enf_of(model, TARGET, None, ["remove_lower"])  # type: ignore[arg-type]  # the claim
    with pytest.raises(FuriosaRuntimeError):
        enf_of(model, TARGET, None, {"no_such": True})
    assert compiled == []


def test_a_wrong_compiler_config_is_a_runtime_error(compiled: list[Any]) -> None:
    with pytest.raises(FuriosaRuntimeError) as caught:
        enf_of(b"onnx", TARGET, None, {"remove_lower": 1})
    assert str(caught.value) == (
        "cannot compile model of 4 bytes: compiler config: 'remove_lower': expected bool, found int "
        "(native error code: 12)"
    )


def test_an_enf_takes_no_compiler_config() -> None:
    with pytest.raises(FuriosaRuntimeError) as caught:
        enf_of(ENF, TARGET, None, {"remove_lower": True})
    assert str(caught.value) == (
        "model of 15 bytes is compiled already: compiler_config {'remove_lower': True} cannot be "
        "applied to it"
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("FC_CACHE_ENABLED", "1")
    monkeypatch.setenv("FC_CACHE_STORE_URL", str(place))
    return place


def test_what_was_compiled_before_is_not_compiled_again(cache: Path, compiled: list[Any]) -> None:
    assert enf_of(b"onnx", TARGET, None, None) == enf_of(b"onnx", TARGET, 1, {}) == ENF
    assert len(compiled) == 1
    enf_of(b"onnx", TARGET, None, {"allow_precision_error": True})
    assert len(compiled) == 2
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_used_is_a_warning(
    cache: Path,
    compiled: list[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert enf_of(b"onnx", TARGET, None, None) == ENF
    monkeypatch.setenv("FC_CACHE_STORE_URL", "http://cache")
    assert enf_of(b"onnx", TARGET, None, None) == ENF
    assert len(compiled) == 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"the compiler cache is not used: {cache} can be written to by others")
    assert second.startswith(
        "the compiler cache is not used: FC_CACHE_STORE_URL: there is no store"
    )


def test_what_never_ends_or_never_begins_is_no_model(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe, tmp_path):
        with pytest.raises(FuriosaRuntimeError, match=rf"cannot read model {path}: "):
            enf_of(path, "warboy", None, None)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    huge = tmp_path / "huge.onnx"
    huge.touch()
    os.truncate(huge, MAX_MODEL_BYTES + 1)
    with pytest.raises(FuriosaRuntimeError, match=f"at most {MAX_MODEL_BYTES}"):
        enf_of(huge, "warboy", None, None)
