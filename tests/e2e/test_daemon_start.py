"""What the daemon says when it cannot start, and how it takes over what a killed one left."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from furiosa.broker.journal import VERSION
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from support.daemon import Daemon


def brokerd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "furiosa.broker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_bad_setting_is_one_line_and_status_2() -> None:
    done = brokerd("--emulate", "2000")
    assert done.returncode == 2
    assert done.stderr == "furiosa-brokerd: emulate is 2000, expected 0..1024\n"


def test_a_folder_that_cannot_be_made_is_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = brokerd("--state", str(tmp_path / "file" / "x"), "--socket", str(tmp_path / "s"))
    assert done.returncode == 1
    assert done.stderr.startswith("furiosa-brokerd: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["b.sock", "b.sock.handoff"])
def test_a_file_left_where_a_socket_belongs_is_replaced(name: str) -> None:
    daemon = Daemon(1)
    (daemon.folder / name).touch()
    try:
        daemon.start()
        command = "from furiosa.client.sync import Connection as C; print(len(C.open(client='t').devices()))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", command],
            env=daemon.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "1\n"
    finally:
        daemon.stop()


def test_a_damaged_journal_does_not_keep_it_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(2)
    (daemon.folder / "journal").write_bytes(b"garbage\n" * 100)
    try:
        daemon.start()
        monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
        with Connection.open(client="test") as connection:
            assert [device.name for device in connection.devices()] == ["npu0", "npu1"]
    finally:
        daemon.stop()


def test_a_journal_of_another_version_that_has_leases_is_one_line_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(1)
    try:
        daemon.start()
        monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
        with Connection.open(client="test") as connection:
            connection.acquire(DeviceSpec.parse("npu:0"))
            (tmp_path / "journal").write_bytes((daemon.folder / "journal").read_bytes())
    finally:
        daemon.stop()
    header, rest = (tmp_path / "journal").read_bytes().split(b"\n", 1)
    header = header[9:].replace(f'"version":{VERSION}'.encode(), b'"version":99')
    written = b"%08x %s\n%s" % (zlib.crc32(header), header, rest)
    (tmp_path / "journal").write_bytes(written)
    done = brokerd("--emulate", "1", "--state", str(tmp_path), "--socket", str(tmp_path / "s"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"furiosa-brokerd: the journal {tmp_path}/journal cannot be used: ")
    assert "version 99" in last
    assert (tmp_path / "journal").read_bytes() == written


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--socket", "{0}/folder"), "{0}/folder"),
        (("--socket", "{0}/b"), "{0}/b.handoff"),
        (("--ready-fd", "99"), "ready-fd"),
        (("--worker-user", "nosuch"), "'nosuch'"),
    ],
    ids=["socket", "handoff socket", "ready fd", "worker user"],
)
def test_what_cannot_work_is_one_line_and_status_1(
    tmp_path: Path, wrong: tuple[str, str], named: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.handoff").mkdir()
    if wrong[0] == "--worker-user" and os.geteuid() != 0:
        pytest.skip("only root changes its workers' user")
    given = [part.format(tmp_path) for part in wrong]
    done = brokerd(
        "--embedded",
        "--emulate",
        "1",
        "--state",
        str(tmp_path / "state"),
        "--socket",
        str(tmp_path / "s"),
        *given,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("furiosa-brokerd: ")
    assert named.format(tmp_path) in last
    assert "Traceback" not in done.stderr
