import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from furiosa.broker import log as log_module
from furiosa.broker.log import FORMS, event, set_up

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
HOSTILE = 'x" admin=1\n2026-01-02T03:04:05.678Z INFO  lease.granted\x1b[2J\u202e\udcff\\'

x = logging.getLogger("x")


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """`written(form, *calls)`: the lines that the calls log in that form, as one process does."""
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level

    def lines(form: str, *calls: Callable[[], None]) -> list[str]:
        fd = os.open(tmp_path / form, os.O_RDWR | os.O_CREAT)
        # not through basicConfig, which would close pytest's own handlers
        root.handlers = []
        try:
            set_up("INFO", form, fd)
            for call in calls:
                call()
        finally:
            os.close(fd)
        return (tmp_path / form).read_text().splitlines()

    yield lines
    log_module._lines = None
    root.handlers = handlers
    root.setLevel(level)


def test_without_a_set_up_events_go_where_other_logs_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(x, "lease.granted", lease="5f3a", device="npu0pe0-1", pid=4)
        event(x, "session.ended", logging.WARNING, cause='a "b"\nc', empty="")
    assert [record.getMessage() for record in caplog.records] == [
        "lease.granted lease=5f3a device=npu0pe0-1 pid=4",
        'session.ended cause="a \\"b\\"\\nc" empty=""',
    ]
    assert caplog.records[1].levelno == logging.WARNING


def granted() -> None:
    event(x, "lease.granted", lease="5f3a", device="npu0pe0-1", pid=4, cause="it is idle")


def test_the_text_form_is_for_people(written: Callable[..., list[str]]) -> None:
    (line,) = written("text", granted)
    content = 'INFO  lease.granted lease=5f3a device=npu0pe0-1 pid=4 cause="it is idle"'
    assert re.fullmatch(rf"{STAMP} {re.escape(content)}", line)


def test_logfmt_is_key_and_value_throughout(written: Callable[..., list[str]]) -> None:
    (line,) = written("logfmt", granted)
    content = 'level=info event=lease.granted lease=5f3a device=npu0pe0-1 pid=4 cause="it is idle"'
    assert re.fullmatch(rf"ts={STAMP} {re.escape(content)}", line)


def test_json_keeps_numbers_and_names_the_rest(written: Callable[..., list[str]]) -> None:
    (line,) = written(
        "json", lambda: event(x, "a.b", n=1, f=0.5, inf=float("inf"), path=Path("/x"), none=None)
    )
    values = json.loads(line)
    assert re.fullmatch(STAMP, values.pop("ts"))
    assert values == {
        "level": "info", "event": "a.b", "n": 1, "f": 0.5, "inf": "inf", "path": "/x", "none": None
    }  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_a_client_made_stays_inside_its_value(
    written: Callable[..., list[str]], form: str
) -> None:
    (line,) = written(form, lambda: event(x, "session.opened", client=HOSTILE, after=1))
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["client"] == HOSTILE
    else:
        quoted = re.search(r'client=("(?:[^"\\]|\\.)*") after=1$', line)
        assert quoted
        assert json.loads(quoted[1]) == HOSTILE


@pytest.mark.parametrize("form", FORMS)
def test_what_others_log_is_an_event_with_a_message(
    written: Callable[..., list[str]], form: str
) -> None:
    def fails() -> None:
        try:
            raise OSError(HOSTILE)
        except OSError:
            x.exception("queue %d\nis broken", 3)

    line, *more = written(form, fails)
    assert line.isprintable()
    if form == "json":
        assert not more
        values = json.loads(line)
        assert (values["event"], values["message"]) == ("log", "queue 3\nis broken")
        assert (values["logger"], values["level"]) == ("x", "error")
        assert values["exception"].endswith(f"OSError: {HOSTILE}")
    else:
        assert 'message="queue 3\\nis broken" logger=x' in line
        assert ("Traceback" in line) == (form == "logfmt")
    if form == "text":
        assert more[0] == "    Traceback (most recent call last):"
        assert all(part.startswith("    ") and part.isprintable() for part in more)


def test_below_the_level_nothing_is_written(written: Callable[..., list[str]]) -> None:
    assert written("text", lambda: event(x, "a.b", logging.DEBUG), lambda: x.debug("c")) == []


def test_under_systemd_the_journal_has_the_time_and_gets_the_priority(
    written: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "text").touch()
    status = (tmp_path / "text").stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    lines = written(
        "text",
        granted,
        lambda: event(x, "worker.died", logging.WARNING),
        lambda: x.error("bad", exc_info=OSError("no")),
    )
    assert lines == [
        '<6>INFO  lease.granted lease=5f3a device=npu0pe0-1 pid=4 cause="it is idle"',
        "<4>WARNING worker.died",
        "<3>ERROR log message=bad logger=x exception=below",
        "<3>    OSError: no",
    ]
    (
        tmp_path / "logfmt"
    ).touch()  # another file: the variable was inherited, the descriptor was not
    assert written("logfmt", granted)[0].startswith("ts=")


def test_a_reader_who_stopped_reading_holds_nobody_up_and_learns_what_he_missed() -> None:
    code = """
import logging, sys
from furiosa.broker.log import event, set_up
log = logging.getLogger("x")
stream = set_up("INFO", "json")
for n in range(20_000):
    event(log, "n", n=n)
print(stream.dropped, flush=True)
sys.stdin.readline()
event(log, "last")
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        dropped = int(process.stdout.readline())  # it got that far
        assert 0 < dropped < 20_000
        _, said = process.communicate("go\n")
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    came = [line["n"] for line in lines if line["event"] == "n"]
    assert came == list(range(20_000 - dropped))
    (told,) = (line for line in lines if line["event"] == "log.dropped")
    assert told["lines"] == 20_001 - (len(lines) - 1)


def test_started_without_stderr_the_log_goes_nowhere_else(tmp_path: Path) -> None:
    code = """
import logging, os, sys
os.close(2)
from furiosa.broker.log import event, set_up
set_up("INFO")
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
event(logging.getLogger("x"), "a.b")
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=True)
    assert (tmp_path / "file").read_bytes() == b""
