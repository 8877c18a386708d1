"""Deprecated modules: each warns whoever imports it, and has its names."""

import inspect
import re
from pathlib import Path

import pytest

from furiosa.runtime import FuriosaRuntimeError, _deprecated
from support.deprecated import NAMES, anew, quietly


@pytest.mark.parametrize("name", NAMES)
def test_an_import_warns_who_imports(name: str) -> None:
    text = f"'furiosa.runtime.{name}' module is deprecated and will be removed in a future release."
    with pytest.warns(FutureWarning, match=f"^{re.escape(text)}$") as warned:
        module = anew(name)
    assert len(warned) == 1  # and not those it is made of
    assert Path(warned[0].filename).parts[-2:] == ("support", "deprecated.py")
    assert [each for each in module.__all__ if not hasattr(module, each)] == []


def test_the_wording_is_in_one_place() -> None:
    assert inspect.getsource(_deprecated).count("will be removed in a future release") == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IncompatibleModel", "model binary is not compatible (native error code: 13)"),
        (
            "CompilationFailed",
            "fail to compile a given model to NPU binary (native error code: 14)",
        ),
        ("InternalError", "unknown (native error code: 15)"),
        ("InvalidYamlException", "compiler config is not valid YAML (native error code: 16)"),
        (
            "IncompatibleApiClientError",
            "incompatible client with Furiosa API server (native error code: 17)",
        ),
        ("ApiClientInitFailed", "fail to initialize API client (native error code: 18)"),
        (
            "NoApiKeyException",
            "no API keys. Please check your API keys. (native error code: 19)",
        ),
        (
            "InvalidSessionOption",
            "invalid options passed to session.create() or create_async() (native error code: 21)",
        ),
        ("QueueWaitTimeout", "queue waiting timed out (native error code: 11)"),
        ("SessionTerminated", "Session or AsyncSession terminated (native error code: 22)"),
        ("DeviceBusy", "NPU device busy (native error code: 23)"),
        ("TensorNameNotFound", "Tensor name not found (native error code: 24)"),
        ("UnsupportedFeature", "Unsupported feature (native error code: 25)"),
        ("InvalidCompilerConfig", "Invalid compiler config (native error code: 30)"),
        (
            "UnsupportedTensorType",
            "numpy.ndarray, TensorArray are only supported (native error code: 7)",
        ),
        ("UnsupportedDataType", "unknown data type"),
        ("InvalidInput", "Invalid input tensors"),
        (
            "SessionClosed",
            "Session or AsyncSession is already closed. Please create a new session.",
        ),
    ],
)
def test_each_error_has_the_published_text(name: str, text: str) -> None:
    kind = getattr(quietly("furiosa.runtime.errors"), name)
    assert str(kind()) == text
    assert str(kind("another text")) == "another text"
    assert issubclass(kind, FuriosaRuntimeError)


def test_every_error_is_listed_above_or_is_the_base() -> None:
    errors = quietly("furiosa.runtime.errors")
    assert errors.NativeException is errors.FuriosaRuntimeError is FuriosaRuntimeError
    assert len(errors.__all__) == 18 + 2


def test_errors_survive_being_sent_to_another_process() -> None:
    import pickle

    busy = quietly("furiosa.runtime.errors").DeviceBusy("held by pid 1")
    copy = pickle.loads(pickle.dumps(busy))
    assert (type(copy), str(copy)) == (type(busy), "held by pid 1")


def test_nobody_published_a_constant() -> None:
    assert quietly("furiosa.runtime.consts").__all__ == []
