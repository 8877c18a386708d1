import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.broker.audit import AuditLog, who
from furiosa.common.views import Container, OwnerView
from support.waiting import until

AT = 1_767_323_045.625  # 2026-01-02T03:04:05.625Z
OWNER = OwnerView(4242, 1000, 100, 7, "python app.py")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def audit(path: Path) -> Iterator[AuditLog]:
    audit = AuditLog(path, wall=lambda: AT)
    yield audit
    audit.close()


def logged(caplog: pytest.LogCaptureFixture, name: str) -> int:
    return sum(record.getMessage().startswith(name) for record in caplog.records)


async def test_a_record_is_one_json_object_on_a_line(audit: AuditLog, path: Path) -> None:
    audit.record("lease.granted", **who(OWNER), tenant="vision", devices=["npu0pe0"], waited=0.5)
    await asyncio.sleep(0)
    assert path.read_text() == (
        '{"at":"2026-01-02T03:04:05.625Z","event":"lease.granted","pid":4242,"uid":1000,'
        '"tenant":"vision","devices":["npu0pe0"],"waited":0.5}\n'
    )


async def test_records_of_one_turn_are_written_at_its_end(audit: AuditLog, path: Path) -> None:
    for number in range(3):
        audit.record("lease.ended", lease=str(number))
    assert path.read_bytes() == b""
    await asyncio.sleep(0)
    assert [each["lease"] for each in read(path)] == ["0", "1", "2"]


def test_without_a_loop_records_are_written_at_once(audit: AuditLog, path: Path) -> None:
    audit.record("broker.started")
    assert [each["event"] for each in read(path)] == ["broker.started"]


async def test_close_writes_what_there_is(path: Path) -> None:
    audit = AuditLog(path)
    audit.record("broker.stopped")
    audit.close()
    assert [each["event"] for each in read(path)] == ["broker.stopped"]
    audit.record("after")
    audit.reopen()
    audit.close()
    assert len(read(path)) == 1


async def test_time_goes_on(path: Path) -> None:
    times = iter([AT, AT + 0.125, AT + 1, AT - 5])
    audit = AuditLog(path, wall=lambda: next(times))
    for _ in range(4):
        audit.record("x")
    audit.close()
    assert [each["at"][17:] for each in read(path)] == ["05.625Z", "05.750Z", "06.625Z", "00.625Z"]


def test_an_existing_file_is_appended_to_and_a_new_one_is_private(path: Path) -> None:
    before = os.umask(0o022)
    try:
        AuditLog(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.write_text('{"event":"old"}\n')
    audit = AuditLog(path)
    audit.record("new")
    audit.close()
    assert [each["event"] for each in read(path)] == ["old", "new"]


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no/audit"):
        AuditLog(tmp_path / "no" / "audit.log")


def test_without_a_path_there_is_no_audit_log() -> None:
    audit = AuditLog(None)
    audit.record("x", y=1)
    audit.reopen()
    audit.close()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Path("/x"), "/x"),
        (math.inf, "inf"),
        (b"\xff", "b'\\xff'"),
        ("a\nb\x1b\udcff", "a\nb\x1b\udcff"),
        ({"a": [1, None]}, {"a": [1, None]}),
    ],
)
def test_whatever_is_recorded_stays_one_line_of_json(
    audit: AuditLog, path: Path, value: object, found: object
) -> None:
    audit.record("x", value=value)
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().isascii()
    assert read(path)[0]["value"] == found


def test_a_list_within_itself_does_not_raise(audit: AuditLog, path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    audit.record("x", value=endless)
    assert read(path)[0]["value"] == "[[...]]"


def test_after_a_rename_reopen_makes_the_next_file(audit: AuditLog, path: Path) -> None:
    audit.record("first")
    old = path.with_suffix(".1")
    path.rename(old)
    audit.record("second")
    audit.reopen()
    audit.record("third")
    assert [each["event"] for each in read(old)] == ["first", "second"]
    assert [each["event"] for each in read(path)] == ["third"]


def test_what_cannot_be_reopened_goes_on_in_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    audit = AuditLog(folder / "audit.log")
    folder.rename(tmp_path / "old")
    audit.reopen()
    audit.record("x")
    audit.close()
    assert [each["event"] for each in read(tmp_path / "old" / "audit.log")] == ["x"]
    assert logged(caplog, "audit.not_reopened") == 1


class Pipe:
    """A file that is full after some thousand bytes until somebody reads it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        self.data = b""

    def drain(self) -> bytes:
        """All that was ever read."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 65_536):
                self.data += data
        return self.data

    def records(self) -> list[dict[str, Any]]:
        self.drain()
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def pipe(path: Path) -> Iterator[Pipe]:
    pipe = Pipe(path)
    yield pipe
    os.close(pipe.fd)


def test_a_full_disk_is_logged_once_and_again_when_it_works(
    pipe: Pipe, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(path)
    for number in range(100):
        audit.record("x", number=number, text="." * 100)
    assert logged(caplog, "audit.failed") == 1
    assert logged(caplog, "audit.works") == 0
    for number in range(100, 200):
        audit.record("x", number=number)
        pipe.drain()
    audit.close()
    assert [each["number"] for each in pipe.records()] == list(range(200))  # no line torn or lost
    assert (logged(caplog, "audit.failed"), logged(caplog, "audit.works")) == (1, 1)


async def test_what_was_kept_is_written_without_a_further_record(
    pipe: Pipe, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.audit.RETRY_SECONDS", 0.01)
    audit = AuditLog(path)
    for number in range(100):
        audit.record("x", number=number, text="." * 100)
    await asyncio.sleep(0)
    await until(lambda: pipe.drain().count(b"\n") == 100)
    audit.close()
    assert [each["number"] for each in pipe.records()] == list(range(100))


async def test_what_finds_no_room_is_counted(
    pipe: Pipe, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.audit.RETRY_SECONDS", 0.001)
    monkeypatch.setattr("furiosa.broker.audit.MOST_KEPT_BYTES", 10_000)
    audit = AuditLog(path)
    for _ in range(200):
        audit.record("x", text="." * 100)
    await until(lambda: pipe.drain().endswith(b'"records":%d}\n' % (200 - pipe.data.count(b'"x"'))))
    assert 50 < pipe.data.count(b'"x"') < 100
    audit.record("y")
    audit.close()
    assert [each["event"] for each in pipe.records()][-2:] == ["audit.lost", "y"]


def test_a_line_that_a_full_disk_tore_is_whole_in_the_next_file(pipe: Pipe, path: Path) -> None:
    audit = AuditLog(path)
    for number in range(100):
        audit.record("x", number=number, text="." * 100)
    path.rename(path.with_suffix(".1"))
    audit.reopen()
    audit.close()
    pipe.drain()
    *whole, torn = pipe.data.split(b"\n")
    assert torn
    numbers = [json.loads(line)["number"] for line in whole]
    assert numbers + [each["number"] for each in read(path)] == list(range(100))


def test_a_file_on_a_full_device_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    audit = AuditLog(Path("/dev/full"))
    audit.record("x")
    audit.record("x")
    audit.close()
    assert logged(caplog, "audit.failed") == 1
    assert "No space left" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


def test_who_is_told_as_far_as_it_is_known() -> None:
    assert who(OWNER) == {"pid": 4242, "uid": 1000}
    in_pod = Container("containerd", "ab" * 32, "7f0c")
    assert who(OwnerView(4242, 0, 0, 7, "x", in_pod)) == {
        "pid": 4242,
        "uid": 0,
        "container": "containerd:" + "ab" * 32,
        "pod": "7f0c",
    }
    remote = OwnerView(0, 65_534, 65_534, 0, "x", remote="10.0.0.7:5000", subject="CN=client")
    assert who(remote) == {"remote": "10.0.0.7:5000", "subject": "CN=client"}
