"""What environment variables do, and that without them nothing happens."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.runtime import _logging
from furiosa.runtime._environment import log_level, profiler_output
from support.deprecated import quietly

envs = quietly("furiosa.runtime.envs")
compiler = quietly("furiosa.runtime.compiler")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment in which nothing is said; its home."""
    for name in list(os.environ):
        if name.startswith(("FURIOSA_", "NPU_", "NUX_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_where_logs_are(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert envs.xdg_state_home() == f"{bare}/.local/state/furiosa"
    assert envs.log_dir() == f"{bare}/.local/state/furiosa/logs"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert (envs.xdg_state_home(), envs.log_dir()) == ("/state", "/state/logs")
    monkeypatch.setenv("FURIOSA_LOG_DIR", "/logs")
    assert envs.log_dir() == "/logs"


def test_the_path_of_the_next_compile_log(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FURIOSA_LOG_DIR", str(bare / "logs"))
    paths = {compiler.generate_compiler_log_path() for _ in range(20)}
    assert len(paths) == 20
    for path in paths:
        assert path.parent == bare / "logs"
        assert re.fullmatch(r"compile-\d{14}-[a-z0-9]{6}\.log", path.name)
    assert not (bare / "logs").exists()


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_compile_logs_are_on_unless_a_test_is_running(
    bare: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    assert envs.is_compile_log_enabled() is True
    monkeypatch.setenv("FURIOSA_TEST_IS_RUNNING", value)
    assert envs.is_compile_log_enabled() is False


def test_the_device_of_the_legacy_api(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert envs.current_npu_device() == "npu0pe0-1"
    monkeypatch.setenv("NPU_DEVNAME", "npu1")
    assert envs.current_npu_device() == "npu1"
    monkeypatch.setenv("FURIOSA_DEVICES", "warboy*1")
    assert envs.current_npu_device() == "warboy*1"


def test_where_the_trace_of_the_process_goes(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert envs.profiler_output() is None
    monkeypatch.setenv("NUX_PROFILER_PATH", "old.json")
    assert envs.profiler_output() == "old.json"
    monkeypatch.setenv("FURIOSA_PROFILER_OUTPUT_PATH", "new.json")
    assert envs.profiler_output() == "new.json"
    assert profiler_output({"NUX_PROFILER_PATH": "", "FURIOSA_PROFILER_OUTPUT_PATH": ""})[0] is None


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (None, None),
        ("", None),
        ("INFO", logging.INFO),
        ("WARN", logging.WARNING),
        ("ERROR", logging.ERROR),
        ("OFF", logging.CRITICAL + 1),
        ("debug", logging.DEBUG),  # which furiosa-compiler takes as well, in any case
    ],
)
def test_log_levels(text: str | None, level: int | None) -> None:
    assert log_level({} if text is None else {"FURIOSA_LOG_LEVEL": text}) == (level, None)


@pytest.fixture
def loggers() -> Iterator[None]:
    """As they were, afterwards."""
    logs = [logging.getLogger(name) for name in _logging.LOGGERS]
    before = [(log, log.level, list(log.handlers)) for log in logs]
    yield
    for log, level, handlers in before:
        log.setLevel(level)
        log.handlers[:] = handlers


def test_without_the_variable_logging_is_not_touched(loggers: None) -> None:
    _logging.configure({})
    for name in _logging.LOGGERS:
        log = logging.getLogger(name)
        assert (log.level, log.handlers, log.propagate) == (logging.NOTSET, [], True)


def test_what_the_program_hears_itself_is_not_written_again(
    loggers: None, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    _logging.configure({"FURIOSA_LOG_LEVEL": "INFO"})
    logging.getLogger("furiosa.runtime.x").info("said once")
    assert [record.getMessage() for record in caplog.records] == ["said once"]
    assert capsys.readouterr().err == ""


PROGRAM = """
import logging, sys
import furiosa.runtime
log = logging.getLogger("furiosa.runtime.x")
for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
    log.log(level, "said %s", "it")
assert not logging.getLogger().handlers
"""


def said(environ: dict[str, str], program: str = PROGRAM) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("INFO", ["INFO", "WARN", "ERROR"]),
        ("WARN", ["WARN", "ERROR"]),
        ("ERROR", ["ERROR"]),
        ("OFF", []),
    ],
)
def test_lines_of_the_runtime(level: str, shown: list[str]) -> None:
    lines = said({"FURIOSA_LOG_LEVEL": level})
    forms = [
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z  {each} furiosa\.runtime\.x: said it"
        for each in shown
    ]
    assert len(lines) == len(forms)
    for line, form in zip(lines, forms, strict=True):
        assert re.fullmatch(form, line)


def test_another_level_is_named_and_is_info() -> None:
    first, *others = said({"FURIOSA_LOG_LEVEL": "LOUD"})
    assert first.endswith(
        "  WARN furiosa.runtime: FURIOSA_LOG_LEVEL: expected one of INFO, WARN, ERROR, OFF; found 'LOUD'; "
        "INFO is used"
    )
    assert len(others) == 3


def test_without_the_variable_python_decides() -> None:
    assert said({}) == ["said it", "said it"]  # its last resort: warnings and errors, bare


def test_exceptions_are_shown_below_their_line() -> None:
    program = """
import logging, furiosa.runtime
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("furiosa.runtime").exception("oh")
"""
    lines = said({"FURIOSA_LOG_LEVEL": "ERROR"}, program)
    assert lines[0].endswith("  ERROR furiosa.runtime: oh")
    assert lines[-1] == "ZeroDivisionError: division by zero"
