"""The compile API: signature, errors, files, versions."""

import inspect
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import furiosa.compiler
from furiosa.compiler import CompilationFailed, CompilerOptions
from furiosa.compiler.instruments import Spills
from furiosa.enf import read
from furiosa.tools.compiler import api, batches
from furiosa.tools.compiler.api import CompilerApiError, compile
from furiosa.tools.compiler.errors import BY_CODE, InvalidConfig, NativeError, Unknown, native
from support import models

MODEL = models.quantized(models.residual_cnn()).SerializeToString()


def test_the_published_signature() -> None:
    parameters = inspect.signature(compile).parameters.values()
    bare = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])
    assert str(bare) == (
        "(input_bytes, target_ir='enf', log=None, dot_graph=None, analyze_memory=None, "
        "batch_size=None, split_after_lower=None, auto_batch_size=None, ga_params=None, "
        "target_npu='warboy-2pe', cache_enabled=True, verbose=False)"
    )


def test_the_target_ir_is_taken_in_any_case() -> None:
    assert compile(MODEL, "LIR").startswith(b"lir net ")
    program = read(compile(MODEL, target_npu="warboy", batch_size=2))
    assert (program.target, program.batch) == ("warboy", 2)


@pytest.mark.parametrize("name", ["sir", "x", ""])
def test_an_invalid_target_ir(name: str) -> None:
    with pytest.raises(CompilerApiError) as caught:
        compile(MODEL, name)
    assert str(caught.value) == f"invalid target ir '{name}'"


def test_errors_have_the_published_text_and_say_the_rest_in_a_note() -> None:
    with pytest.raises(CompilerApiError) as caught:
        compile(b"no model")
    error = caught.value
    assert str(error) == "Invalid format (native error code: 4)"
    assert isinstance(error, BY_CODE[4])
    assert error.detail.startswith("this is not an ONNX model")
    assert error.__notes__ == [error.detail]
    with pytest.raises(CompilerApiError, match=r"^Invalid NPU id \(native error code: 6\)"):
        compile(MODEL, target_npu="renegade")
    with pytest.raises(CompilerApiError, match=r"^Invalid config \(native error code: 12\)"):
        compile(MODEL, ga_params={"population_size": "many"})
    with pytest.raises(CompilerApiError, match=r"^IO error \(native error code: 2\)"):
        compile(MODEL, log="/no/such/folder/log")


def test_every_published_code_has_its_text() -> None:
    assert {code: cls.message for code, cls in BY_CODE.items()} == {
        1: "Compilation error",
        2: "IO error",
        3: "Configuration mismatch",
        4: "Invalid format",
        5: "Invalid model",
        6: "Invalid NPU id",
        7: "Out of dram",
        8: "Out of sram",
        9: "Out of instruction memory",
        10: "TFLITE to dfg",
        11: "User command",
        12: "Invalid config",
    }
    assert str(Unknown("x")) == "Unknown (native error code: 255)"
    for cls in (*BY_CODE.values(), Unknown):
        again = pickle.loads(pickle.dumps(cls("found")))
        assert (type(again), str(again), again.detail) == (cls, str(cls("found")), "found")


def test_an_error_of_the_compiler_becomes_that_of_its_code() -> None:
    error = native(CompilationFailed("dfg", "rule", "found", "step"))
    assert type(error) is BY_CODE[1]
    assert "found" in error.detail
    strange = CompilationFailed("dfg", "rule", "found", "step")
    strange.code = 77  # type: ignore[misc]  # a code that nobody published
    assert isinstance(native(strange), NativeError)
    assert type(native(strange)) is Unknown


def test_the_log_has_progress_and_with_verbose_the_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    compile(MODEL, log=log)
    assert log.read_text().startswith("[1/6] 🔍   Compiling from onnx to dfg\n")
    assert "split took" not in log.read_text()
    compile(MODEL, log=log, verbose=True)
    assert "split took" in log.read_text()
    assert capsys.readouterr().err == ""
    compile(MODEL)
    assert "✨  Finished in" in capsys.readouterr().err


def test_reports_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("furiosa.compiler.reports")
    module.__dict__.update(dot_graph=lambda ldfg: "dot", memory_report=lambda gir: "html")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    compile(MODEL, dot_graph=tmp_path / "m.dot", analyze_memory=str(tmp_path / "m.html"))
    assert (tmp_path / "m.dot").read_text() == "dot"
    assert (tmp_path / "m.html").read_text() == "html"


def test_the_cache_is_used_unless_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_CACHE_ENABLED", "1")
    monkeypatch.setenv("FC_CACHE_STORE_URL", str(tmp_path / "cache"))
    first = compile(MODEL)
    capsys.readouterr()
    assert compile(MODEL) == first
    assert capsys.readouterr().err.count("\n") == 1
    compile(MODEL, cache_enabled=False)
    assert capsys.readouterr().err.count("\n") > 1
    compile(MODEL, ga_params={"nondeterministic": True})
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_batch_is_given_or_chosen_and_not_both() -> None:
    with pytest.raises(CompilerApiError, match="batch_size and auto_batch_size exclude each other"):
        compile(MODEL, batch_size=2, auto_batch_size=True)


@pytest.mark.parametrize(("fitting", "chosen"), [(1, 1), (2, 2), (4, 4), (7, 4), (4096, 1024)])
def test_the_chosen_batch_is_the_largest_power_of_two_that_fits(
    fitting: int, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_fits", lambda model, options: options.batch_size <= fitting)
    monkeypatch.setattr(
        api, "compile_reported", lambda model, options, *rest, **more: _reported(options.batch_size)
    )
    assert compile(MODEL, auto_batch_size=True) == str(chosen).encode()


def _reported(batch: int) -> object:
    from furiosa.tools.compiler.reported import Reported

    return Reported(str(batch).encode())


def test_the_chosen_batch_is_the_last_one_without_a_spill() -> None:
    net = models.Net((1, 4, 512, 512))
    x = net.conv("a", "image", 4, 4, 3)
    big = models.quantized(net.model(net.node("Add", "sum", [net.conv("b", x, 4, 4, 3), x])))
    model, options = big.SerializeToString(), CompilerOptions()
    batch = batches.largest_batch(model, options)
    assert 1 < batch < 64
    assert not spilled(model, options.with_batch(batch))
    assert spilled(model, options.with_batch(2 * batch))


def spilled(model: bytes, options: CompilerOptions) -> int:
    spills = Spills()
    furiosa.compiler.compile(model, options, instruments=(spills,))
    return spills.bytes


def test_a_model_that_cannot_be_batched_keeps_its_batch_of_one() -> None:
    net = models.Net((1, 3, 4, 4))
    mixed = net.model(net.node("Softmax", "mix", ["image"], axis=0))
    assert read(compile(mixed.SerializeToString(), auto_batch_size=True)).batch == 1


@pytest.mark.parametrize("target_ir", ["ldfg", "lir"])
def test_no_batch_is_chosen_for_what_has_one(target_ir: str) -> None:
    text = compile(MODEL, target_ir=target_ir, batch_size=2)
    with pytest.raises(InvalidConfig) as caught:
        compile(text, auto_batch_size=True)
    assert caught.value.detail == (
        f"the source is a {target_ir}, whose batch size cannot be chosen any more"
    )


def test_no_batch_is_chosen_for_a_dfg_that_has_one() -> None:
    text = compile(MODEL, target_ir="dfg", batch_size=4)
    with pytest.raises(InvalidConfig) as caught:
        compile(text, auto_batch_size=True)
    assert caught.value.detail == "batch size 2: the dfg was made for batch size 4"


def test_version_texts() -> None:
    info = api.version_dict()
    assert list(info) == ["version", "rev", "built"]
    assert (
        api.version_string() == f"{info['version']} (rev: {info['rev']} built at {info['built']})"
    )
    assert re.fullmatch(r"[0-9a-f]{9}", info["rev"])
    version = api.VersionInfo("0.1.0", "abcdef012", "2026-01-01T00:00:00Z")
    assert (version.version, version.git_hash) == ("0.1.0", "abcdef012")
    assert version.build_timestamp == "2026-01-01T00:00:00Z"
