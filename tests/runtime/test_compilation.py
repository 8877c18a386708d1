"""What is told of a compilation, and where."""

import errno
import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._compilation import size_text
from furiosa.runtime._source import enf_of
from support import models
from support.deprecated import quietly
from support.fake_connection import FakeNpu

errors = quietly("furiosa.runtime.errors")
session = quietly("furiosa.runtime.session")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compile logs go, which is not there yet."""
    folder = tmp_path / "state" / "logs"
    monkeypatch.delenv("FURIOSA_TEST_IS_RUNNING", raising=False)
    monkeypatch.setenv("FURIOSA_LOG_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def model() -> bytes:
    """Softmax is for the host, the rest is not in a form that the NPU takes."""
    data: bytes = models.residual_cnn().SerializeToString()
    return data


def host_operators(model: bytes) -> list[str]:
    found: list[str] = []
    enf_of(model, "warboy", None, None, hint=found.append)
    return found


def test_a_compilation_leaves_a_log(
    logs: Path, model: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "furiosa.runtime")
    file = tmp_path / "model.onnx"
    file.write_bytes(model)
    enf_of(file, "warboy-2pe", None, None)
    (log,) = logs.iterdir()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(log.stat().st_mode) == 0o644 & ~umask
    assert stat.S_IMODE(logs.stat().st_mode) == 0o755 & ~umask
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"Using furiosa-compiler \S+ \(rev: \S+ built at \S+\)", lines[0])
    assert re.fullmatch(
        r"Compiling Model#\d{4} \(target: warboy-b0-2pe, 128dpes, file: model\.onnx, size: .*B\), "
        r"batch size 1",
        lines[1],
    )
    assert lines[2] == "[1/6] 🔍   Compiling from onnx to dfg"
    assert lines[-1].startswith("✨  Finished in ")
    first, second, third, fourth = (record.getMessage() for record in caplog.records)
    assert first == lines[0]
    assert second == f"Saving the compilation log into {log}"
    assert lines[1].startswith(third)
    name = third.split()[1]
    assert re.fullmatch(rf"{name} has been compiled successfully \(took \d+ secs\)", fourth)


def test_it_says_what_stays_on_the_host_and_why(logs: Path, model: bytes) -> None:
    operators = host_operators(model)
    assert operators
    assert len(set(operators)) == len(operators)
    (log,) = logs.iterdir()
    for operator in operators:
        assert re.search(rf"^\S+ \({operator}\) runs on the host: \w", log.read_text(), re.M)


def test_a_failed_compilation_leaves_a_log_that_the_error_names(logs: Path) -> None:
    with pytest.raises(errors.CompilationFailed, match="cannot compile model of 4 bytes") as caught:
        enf_of(b"onnx", "warboy", None, None)
    (log,) = logs.iterdir()
    assert caught.value.log == str(log)
    assert log.read_text().splitlines()[-1].startswith("failed: InvalidFormat: ")


def test_what_comes_from_the_cache_leaves_none(
    logs: Path, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_CACHE_ENABLED", "1")
    monkeypatch.setenv("FC_CACHE_STORE_URL", str(tmp_path / "cache"))
    first = enf_of(model, "warboy", None, None)
    assert enf_of(model, "warboy", None, None) == first
    assert len(list(logs.iterdir())) == 1
    assert host_operators(model)  # is compiled anew
    assert len(list(logs.iterdir())) == 2


def test_none_is_left_while_a_test_is_running(
    logs: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FURIOSA_TEST_IS_RUNNING", "")
    enf_of(model, "warboy", None, None)
    with pytest.raises(errors.CompilationFailed) as caught:
        enf_of(b"onnx", "warboy", None, None)
    assert caught.value.log is None
    assert not logs.exists()


def test_a_folder_that_cannot_be_is_a_warning(
    logs: Path, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    logs.parent.touch()  # a file where a folder should be
    enf_of(model, "warboy", None, None)
    (record,) = (each for each in caplog.records if each.levelno == logging.WARNING)
    assert record.getMessage().startswith(f"the compilation log cannot be saved into {logs}/")


@pytest.mark.parametrize("options", [{"no_such": True}, {"remove_lower": 1}])
def test_a_wrong_configuration_has_a_class_of_its_own(options: Any) -> None:
    with pytest.raises(errors.InvalidCompilerConfig) as caught:
        enf_of(b"onnx", "warboy", None, options)
    assert isinstance(caught.value, FuriosaRuntimeError)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (18_637, "18.2 kiB"),
        (5 << 20, "5.0 MiB"),
        (2 << 30, "2.0 GiB"),
        (1 << 42, "4096.0 GiB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_hints_are_printed_when_asked_for(
    npu: FakeNpu, model: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    session.create(model, compiler_hints=False).close()
    assert capsys.readouterr().err == ""
    session.create(model, compiler_hints=True).close()
    lines = capsys.readouterr().err.splitlines()
    operators = host_operators(model)
    assert lines == [
        f"Hint [{number}]: '{operator}' cannot be accelerated yet"
        for number, operator in enumerate(operators, 1)
    ]


@pytest.mark.parametrize("columns", [None, 70])
def test_who_is_refused_gets_what_a_report_needs(
    npu: FakeNpu,
    logs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int | None,
) -> None:
    def terminal_size(descriptor: int) -> os.terminal_size:
        if columns is None:
            raise OSError(errno.ENOTTY, "no terminal")
        return os.terminal_size((columns, 24))

    monkeypatch.setattr(os, "get_terminal_size", terminal_size)
    text = r"fail to compile a given model to NPU binary \(native error code: 14\)"
    with pytest.raises(errors.CompilationFailed, match=text) as caught:
        session.create(b"onnx")
    assert "cannot compile model of 4 bytes" in caught.value.__notes__[0]
    lines = capsys.readouterr().err.splitlines()
    rule = "=" * (columns or 100)
    assert lines[:3] == [rule, "Information Dump", rule]
    assert lines[-1] == rule
    assert [line.split(":")[0] for line in lines[3:6]] == [
        "- Python version",
        "- furiosa-compiler version",
        "- furiosa-runtime version",
    ]
    (log,) = logs.iterdir()
    assert str(log) in lines[-2]
    with pytest.raises(errors.InvalidCompilerConfig, match=r"\(native error code: 30\)"):
        session.create(b"onnx", compiler_config={"no_such": 1})


def test_a_program_without_stderr_hears_of_its_error(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(errors.CompilationFailed):
        session.create(b"onnx")
    assert capsys.readouterr().out == ""
